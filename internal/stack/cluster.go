package stack

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
)

// A ClusterSpec says what a VictoriaMetrics cluster consists of. The zero value is one of each.
type ClusterSpec struct {
	// Storages and Inserts are how many vmstorages and vminserts there are. 0 is 1.
	Storages, Inserts int
	// ReplicationFactor is on how many vmstorages a row is stored. 0 is 1.
	ReplicationFactor int
	// StorageArgs, InsertArgs and SelectArgs are added to the arguments of each, and win over ours.
	StorageArgs, InsertArgs, SelectArgs []string
	// StorageEnv and InsertEnv are added to the environment of each, such as "GOGC=10".
	StorageEnv, InsertEnv []string
	// Dir is the folder that holds everything.
	Dir string
	// Say is as in Spec.
	Say func(string)
}

// A Cluster is a running VictoriaMetrics cluster. vmstorage does not deduplicate, so that a sample that was written twice is there
// twice.
type Cluster struct {
	Storages, Inserts []*Process
	// Select reads with -dedup.minScrapeInterval=1ms, as a cluster behind ingestgw should. Raw does not deduplicate: through it
	// copies can be counted.
	Select, Raw *Process
}

// LaunchCluster starts a cluster and returns when all of it is ready. The caller ends it with Close.
func LaunchCluster(ctx context.Context, spec ClusterSpec) (*Cluster, error) {
	c := &Cluster{}
	if err := c.launch(ctx, spec); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) launch(ctx context.Context, spec ClusterSpec) error {
	launch := func(s Spec, args []string) (*Process, error) {
		s.Dir, s.Say = filepath.Join(spec.Dir, s.Name), spec.Say
		s.Args = append(s.Args, args...)
		return Launch(ctx, s)
	}
	for i := range max(1, spec.Storages) {
		s := VmstorageSpec(fmt.Sprintf("vmstorage-%d", i))
		s.Env = append(s.Env, spec.StorageEnv...)
		p, err := launch(s, spec.StorageArgs)
		if err != nil {
			return err
		}
		c.Storages = append(c.Storages, p)
	}
	for i := range max(1, spec.Inserts) {
		s := VminsertSpec(fmt.Sprintf("vminsert-%d", i), c.Storages...)
		s.Args = append(s.Args, fmt.Sprintf("-replicationFactor=%d", max(1, spec.ReplicationFactor)))
		s.Env = spec.InsertEnv
		p, err := launch(s, spec.InsertArgs)
		if err != nil {
			return err
		}
		c.Inserts = append(c.Inserts, p)
	}
	dedup := VmselectSpec("vmselect", c.Storages...)
	dedup.Args = append(dedup.Args, "-dedup.minScrapeInterval=1ms")
	var err error
	if c.Select, err = launch(dedup, spec.SelectArgs); err != nil {
		return err
	}
	c.Raw, err = launch(VmselectSpec("vmselect-raw", c.Storages...), spec.SelectArgs)
	return err
}

// Close kills everything that runs. A second call does nothing.
func (c *Cluster) Close() {
	for _, p := range c.Processes() {
		p.Close()
	}
}

// Processes are all of the cluster, readers first, so that stopping them in this order leaves nobody waiting for another.
func (c *Cluster) Processes() []*Process {
	var all []*Process
	for _, p := range []*Process{c.Raw, c.Select} {
		if p != nil {
			all = append(all, p)
		}
	}
	all = append(all, c.Inserts...)
	return append(all, c.Storages...)
}

// InsertURLs are the base URLs of the vminserts, such as "http://127.9.0.1:34567".
func (c *Cluster) InsertURLs() []string { return urls(c.Inserts) }

// StorageURLs are the base URLs of the vmstorages, where their /metrics are.
func (c *Cluster) StorageURLs() []string { return urls(c.Storages) }

func urls(ps []*Process) []string {
	var all []string
	for _, p := range ps {
		all = append(all, p.URL())
	}
	return all
}

// Flush makes what the vmstorages have received so far visible to queries, which otherwise takes a second or two. What vminsert still
// holds is not covered. It says nothing about durability.
func (c *Cluster) Flush(ctx context.Context) error {
	for _, s := range c.Storages {
		if !s.Running() {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/internal/force_flush", nil)
		if err != nil {
			return fmt.Errorf("flush %s: %w", s.Name(), err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return fmt.Errorf("flush %s: %w", s.Name(), err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("flush %s: %s", s.Name(), resp.Status)
		}
	}
	return nil
}

func storageNodes(storages []*Process, name string) string {
	var addrs []string
	for _, s := range storages {
		addrs = append(addrs, s.AddrOf(name))
	}
	return "-storageNode=" + strings.Join(addrs, ",")
}
