package stack

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A KafkaSpec says what an Apache Kafka cluster consists of. The zero value is one broker.
type KafkaSpec struct {
	// Brokers is how many there are. Each is a controller too, so of three one may be away. 0 is 1.
	Brokers int
	// Config is for the server.properties of each, and wins over ours, such as "broker.session.timeout.ms": "9000".
	Config map[string]string
	// Listen are the addresses for clients that are wished for, as in Spec.Listen, by the number of the broker. It may be shorter
	// than Brokers.
	Listen []string
	// Dir is the folder that holds everything. A cluster that was there before goes on with its data.
	Dir string
	// Say is as in Spec.
	Say func(string)
}

// Kafka is a running Apache Kafka cluster. Topics are made by those who use them, never by asking for one.
type Kafka struct {
	// Brokers are the processes, by node id: Brokers[0] has node id 0. A broker is ready when it counts itself among those that are
	// alive. After a kill -9 that takes until its earlier life is fenced (3 s). Restart may change its settings by lines that are
	// appended to Files["server.properties"]. Without a majority of the others, a broker does not stop: Kill it.
	Brokers []*Process

	java, jars string
}

// LaunchKafka starts a Kafka cluster and returns when every broker knows of all others. The caller ends it with Close.
func LaunchKafka(ctx context.Context, spec KafkaSpec) (*Kafka, error) {
	k := &Kafka{}
	if err := k.launch(ctx, spec); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

func (k *Kafka) launch(ctx context.Context, spec KafkaSpec) error {
	var err error
	if k.jars, err = Install(ctx, KafkaJars, spec.Say); err != nil {
		return err
	}
	if k.java, err = exec.LookPath("java"); err != nil {
		return err
	}
	spec.Brokers = max(1, spec.Brokers)
	for id := range spec.Brokers {
		p, err := prepare(ctx, k.brokerSpec(spec, id))
		if err != nil {
			return err
		}
		k.Brokers = append(k.Brokers, p)
	}
	for id, p := range k.Brokers { // now the addresses of all are known
		p.spec.Files["server.properties"] = properties(spec, id, k.Brokers)
	}
	cluster, err := k.clusterID()
	if err != nil {
		return err
	}
	// All at once: none is ready before a majority is.
	if err := k.each(ctx, func(ctx context.Context, p *Process) error {
		if err := k.format(ctx, p, cluster); err != nil {
			return err
		}
		return p.start(ctx)
	}); err != nil {
		return err
	}
	return k.each(ctx, func(ctx context.Context, p *Process) error { return p.awaitBrokers(ctx, spec.Brokers) })
}

// each calls do for all brokers at the same time, and returns when all calls have ended. The first error ends the others' context.
func (k *Kafka) each(ctx context.Context, do func(context.Context, *Process) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var wg sync.WaitGroup
	for _, p := range k.Brokers {
		wg.Go(func() {
			if err := do(ctx, p); err != nil {
				fail(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// clusterID is the one that brokers were formatted with, or a new one.
func (k *Kafka) clusterID() (string, error) {
	for _, p := range k.Brokers {
		text, err := os.ReadFile(p.metaProperties())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		found := regexp.MustCompile(`(?m)^cluster\.id=(\S+)`).FindSubmatch(text)
		if found == nil {
			return "", fmt.Errorf("%s names no cluster", p.metaProperties())
		}
		return string(found[1]), nil
	}
	// Kafka's ids are 16 bytes like this; it would take one that begins with "-" for an option.
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	id[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(id), nil
}

// metaProperties is what Kafka's formatting leaves in a folder of data, as its last step.
func (p *Process) metaProperties() string { return filepath.Join(p.Dir(), "data", "meta.properties") }

// format makes the broker's folder one of that cluster, unless it is that of a cluster already.
func (k *Kafka) format(ctx context.Context, p *Process, cluster string) error {
	if _, err := os.Stat(p.metaProperties()); err == nil {
		return nil
	}
	if err := p.writeFiles(p.filler()); err != nil {
		return fmt.Errorf("format %s: %w", p.Name(), err)
	}
	_, err := k.Tool(ctx, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", filepath.Join(p.Dir(), "server.properties"))
	if err != nil {
		return fmt.Errorf("format %s: %w", p.Name(), err)
	}
	return nil
}

// brokerSpec is how a broker is started; its server.properties are still missing.
func (k *Kafka) brokerSpec(spec KafkaSpec, id int) Spec {
	listen := map[string]string{"kafka": "", "controller": ""}
	if id < len(spec.Listen) {
		listen["kafka"] = spec.Listen[id]
	}
	name := fmt.Sprintf("kafka-%d", id)
	return Spec{
		Name:   name,
		Binary: k.java,
		Args: append(k.javaArgs(),
			"-Xms128m", "-Xmx384m",
			"-Djava.io.tmpdir={dir}", // the native parts of codecs are unpacked there
			"-Dlog4j2.configurationFile={dir}/log4j2.properties",
			"kafka.Kafka", "{dir}/server.properties"),
		Listen:      listen,
		Dir:         filepath.Join(spec.Dir, name),
		Files:       map[string]string{"log4j2.properties": log4j2},
		Answers:     func(ctx context.Context, p *Process) error { return p.isAlive(ctx, id) },
		ReadyWithin: 2 * time.Minute,
		StopStatus:  143,
	}
}

// javaArgs make a JVM start fast, at the price of peak speed, with Kafka's jars. It leaves no files in /tmp.
func (k *Kafka) javaArgs() []string {
	return []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp", k.jars + "/*"}
}

// log4j2 sends the log to standard output, where that of every process goes, without a listing of all settings at each start.
const log4j2 = `appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
logger.settings.name = org.apache.kafka.common.config.AbstractConfig
logger.settings.level = warn
`

// properties are the settings of a broker, for a small machine and for quick fail-over: a broker that is dead or stands still is
// fenced after 3 s, by Kafka's default after 9 s. "{kafka}", "{controller}" and "{dir}" are as in Spec.
func properties(spec KafkaSpec, id int, brokers []*Process) string {
	var voters []string
	for id, p := range brokers {
		voters = append(voters, fmt.Sprintf("%d@%s", id, p.AddrOf("controller")))
	}
	copies, inSync := fmt.Sprint(min(3, len(brokers))), fmt.Sprint(min(2, len(brokers)))
	config := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        fmt.Sprint(id),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"listeners":                      "PLAINTEXT://{kafka},CONTROLLER://{controller}",
		"advertised.listeners":           "PLAINTEXT://{kafka}",
		"controller.listener.names":      "CONTROLLER",
		"inter.broker.listener.name":     "PLAINTEXT",
		"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs":                       "{dir}/data",

		"default.replication.factor":                       copies,
		"min.insync.replicas":                              inSync,
		"offsets.topic.replication.factor":                 copies,
		"offsets.topic.num.partitions":                     "1",
		"transaction.state.log.replication.factor":         copies,
		"transaction.state.log.min.isr":                    inSync,
		"transaction.state.log.num.partitions":             "1",
		"share.coordinator.state.topic.replication.factor": copies,
		"share.coordinator.state.topic.min.isr":            inSync,
		"share.coordinator.state.topic.num.partitions":     "1",
		"auto.create.topics.enable":                        "false",
		"unclean.leader.election.enable":                   "false",
		"message.max.bytes":                                "16777216",
		"log.segment.bytes":                                "67108864",
		"log.cleaner.dedupe.buffer.size":                   "4194304",
		"num.network.threads":                              "2",
		"num.io.threads":                                   "2",

		"broker.session.timeout.ms":             "3000",
		"broker.heartbeat.interval.ms":          "500",
		"replica.lag.time.max.ms":               "3000",
		"controller.quorum.election.timeout.ms": "500",
		"controller.quorum.fetch.timeout.ms":    "1000",
		"group.initial.rebalance.delay.ms":      "0",
	}
	maps.Copy(config, spec.Config)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(config)) {
		fmt.Fprintf(&b, "%s=%s\n", key, config[key])
	}
	return b.String()
}

// Addrs are the addresses of the brokers for clients, "ip:port".
func (k *Kafka) Addrs() []string {
	var all []string
	for _, p := range k.Brokers {
		all = append(all, p.AddrOf("kafka"))
	}
	return all
}

// Bootstrap is Addrs with commas between them.
func (k *Kafka) Bootstrap() string { return strings.Join(k.Addrs(), ",") }

// Close kills what runs. A second call does nothing.
func (k *Kafka) Close() {
	for _, p := range k.Brokers {
		p.Close()
	}
}
