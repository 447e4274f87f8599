// Package stack installs, starts and kills the real servers that tests, `make run` and load tests use.
//
// A Spec says how one server is started; Launch starts it and returns a Process that can be killed, frozen and started again on
// the same ports and files. LaunchCluster does so for a whole VictoriaMetrics cluster, LaunchKafka for Apache Kafka. Tests call Start,
// StartCluster and StartKafka, which end everything with the test and show the servers' last words when it failed.
//
//	c := stack.StartCluster(t, stack.ClusterSpec{Storages: 2})
//	gw := stack.Start(t, stack.Ingestgw(binary,
//		"INGESTGW_FORWARD_URLS="+strings.Join(c.InsertURLs(), ","),
//		"INGESTGW_FORWARD_STORAGE_URLS="+strings.Join(c.StorageURLs(), ",")))
//	c.Inserts[0].Kill()
//
// Servers never outlive the process that started them, however that one ends (on Linux; elsewhere only when it ends in order).
package stack
