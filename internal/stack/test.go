package stack

import (
	"context"
	"path/filepath"
)

// T is what this package needs of a *testing.T or *testing.B.
type T interface {
	Helper()
	Context() context.Context
	TempDir() string
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Start is Launch for tests: whatever goes wrong fails the test, the process ends with the test, and its last lines are logged when
// the test has failed. Without a Dir, the process gets a folder of the test's.
func Start(t T, spec Spec) *Process {
	t.Helper()
	if spec.Dir == "" {
		spec.Dir = filepath.Join(t.TempDir(), spec.Name)
	}
	if spec.Say == nil {
		spec.Say = func(s string) { t.Logf("%s", s) }
	}
	p, err := Launch(t.Context(), spec)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { end(t, p) })
	return p
}

// StartCluster is LaunchCluster for tests, as Start is Launch.
func StartCluster(t T, spec ClusterSpec) *Cluster {
	t.Helper()
	if spec.Dir == "" {
		spec.Dir = t.TempDir()
	}
	if spec.Say == nil {
		spec.Say = func(s string) { t.Logf("%s", s) }
	}
	c, err := LaunchCluster(t.Context(), spec)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		for _, p := range c.Processes() {
			end(t, p)
		}
	})
	return c
}

// StartKafka is LaunchKafka for tests, as Start is Launch.
func StartKafka(t T, spec KafkaSpec) *Kafka {
	t.Helper()
	if spec.Dir == "" {
		spec.Dir = t.TempDir()
	}
	if spec.Say == nil {
		spec.Say = func(s string) { t.Logf("%s", s) }
	}
	k, err := LaunchKafka(t.Context(), spec)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		for _, p := range k.Brokers {
			end(t, p)
		}
	})
	return k
}

func end(t T, p *Process) {
	t.Helper()
	p.Close()
	if t.Failed() {
		t.Logf("%s ended with:\n%s", p.Name(), p.Log())
	}
}
