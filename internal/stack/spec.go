package stack

// The Specs of the servers. They lack a Dir, which Start and LaunchCluster choose; arguments that are appended win over the ones
// that are there. The memory of the VictoriaMetrics parts is kept small, so that many of them fit on a small machine.

// VmstorageSpec is a vmstorage that keeps its data in its folder, for a hundred years, and does not deduplicate.
func VmstorageSpec(name string) Spec {
	return Spec{
		Name:   name,
		Part:   Vmstorage,
		Listen: map[string]string{"http": "", "vminsert": "", "vmselect": ""},
		Ready:  "http://{http}/health",
		Args: []string{
			"-httpListenAddr={http}",
			"-vminsertAddr={vminsert}",
			"-vmselectAddr={vmselect}",
			"-storageDataPath={dir}",
			"-retentionPeriod=100y",
			"-memory.allowedBytes=128MB",
			// By default vmstorage takes 25 s to send its vminserts away before it ends.
			"-storage.vminsertConnsShutdownDuration=1s",
			"-loggerTimezone=Local",
		},
		// v1.100.0 throws away parts of its index when more than 16 MiB of it are new within a second on each of several shards, and
		// those samples are found no more (lib/mergeset/table.go, addIbsToFlush; mended in v1.100.1). There are 64 shards with 8, 4
		// with 2.
		Env: []string{"GOMAXPROCS=8"},
	}
}

// VminsertSpec is a vminsert in front of the storages.
func VminsertSpec(name string, storages ...*Process) Spec {
	return Spec{
		Name:   name,
		Part:   Vminsert,
		Listen: map[string]string{"http": ""},
		Ready:  "http://{http}/health",
		Args: []string{
			"-httpListenAddr={http}",
			storageNodes(storages, "vminsert"),
			"-memory.allowedBytes=128MB",
			"-loggerTimezone=Local",
		},
	}
}

// VmselectSpec is a vmselect above the storages. It refuses to answer when a storage is missing, because a partial answer
// looks like lost samples.
func VmselectSpec(name string, storages ...*Process) Spec {
	return Spec{
		Name:   name,
		Part:   Vmselect,
		Listen: map[string]string{"http": ""},
		Ready:  "http://{http}/health",
		Args: []string{
			"-httpListenAddr={http}",
			storageNodes(storages, "vmselect"),
			"-cacheDataPath={dir}/cache",
			"-search.denyPartialResponse",
			"-memory.allowedBytes=128MB",
			"-loggerTimezone=Local",
		},
	}
}

// VmagentSpec is a vmagent that scrapes what config says (in Prometheus' format) and sends to the remote-write URLs.
func VmagentSpec(name, config string, remoteWrite ...string) Spec {
	s := Spec{
		Name:   name,
		Part:   Vmagent,
		Listen: map[string]string{"http": ""},
		Ready:  "http://{http}/health",
		Files:  map[string]string{"scrape.yml": config},
		Args: []string{
			"-httpListenAddr={http}",
			"-promscrape.config={dir}/scrape.yml",
			"-remoteWrite.tmpDataPath={dir}/queue",
			"-memory.allowedBytes=64MB",
			"-loggerTimezone=Local",
		},
	}
	for _, url := range remoteWrite {
		s.Args = append(s.Args, "-remoteWrite.url="+url)
	}
	return s
}

// PrometheusSpec is a Prometheus with that configuration, which says what to scrape and where to send it.
func PrometheusSpec(name, config string) Spec {
	return Spec{
		Name:   name,
		Part:   Prometheus,
		Listen: map[string]string{"http": ""},
		Ready:  "http://{http}/-/ready",
		Files:  map[string]string{"prometheus.yml": config},
		Args: []string{
			"--web.listen-address={http}",
			"--config.file={dir}/prometheus.yml",
			"--storage.tsdb.path={dir}/data",
		},
	}
}

// AlertmanagerSpec is an Alertmanager with that configuration, which says whom it notifies. It is alone: it has no peers to agree with.
func AlertmanagerSpec(name, config string) Spec {
	return Spec{
		Name:   name,
		Part:   Alertmanager,
		Listen: map[string]string{"http": ""},
		Ready:  "http://{http}/-/ready",
		Files:  map[string]string{"alertmanager.yml": config},
		Args: []string{
			"--web.listen-address={http}",
			"--config.file={dir}/alertmanager.yml",
			"--storage.path={dir}/data",
			"--cluster.listen-address=",
		},
	}
}

// IngestgwSpec is the program under test: binary is its path, env its settings (KEY=VALUE). It listens at Addr, its admin listener
// at AddrOf("admin"), and buffers in its folder; settings in env win.
func IngestgwSpec(name, binary string, env ...string) Spec {
	return Spec{
		Name:   name,
		Binary: binary,
		Listen: map[string]string{"http": "", "admin": ""},
		Ready:  "http://{admin}/-/ready",
		Env: append([]string{
			"INGESTGW_INGEST_LISTEN={http}",
			"INGESTGW_ADMIN_LISTEN={admin}",
			"INGESTGW_BUFFER_DIR={dir}/buffer",
			"INGESTGW_SHUTDOWN_DELAY=0s",
		}, env...),
	}
}
