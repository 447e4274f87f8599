package stack

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestClusterKeepsDataOverKills(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := StartCluster(t, ClusterSpec{Storages: 2, Inserts: 2, ReplicationFactor: 2})
	now := time.Now().UnixMilli()
	insert(t, c.Inserts[0], "survivor", now)
	want := fmt.Sprintf(`{"metric":{"__name__":"survivor"},"values":[1],"timestamps":[%d]}`, now)
	await(t, c, c.Select, want)

	for _, p := range c.Storages { // ends well, so that nothing is lost with its memory
		if err := p.Restart(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range c.Processes() {
		p.Kill()
	}
	for i := len(c.Processes()) - 1; i >= 0; i-- {
		if err := c.Processes()[i].Restart(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	await(t, c, c.Select, want)
	insert(t, c.Inserts[1], "later", now)
	await(t, c, c.Select, `"later"`)
}

func TestRawShowsCopiesThatSelectHides(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := StartCluster(t, ClusterSpec{})
	now := time.Now().UnixMilli()
	insert(t, c.Inserts[0], "twice", now)
	insert(t, c.Inserts[0], "twice", now)
	await(t, c, c.Raw, fmt.Sprintf(`"values":[1,1],"timestamps":[%d,%d]`, now, now))
	await(t, c, c.Select, fmt.Sprintf(`"values":[1],"timestamps":[%d]`, now))
}

func TestInstallBuildsOnceWhoeverRaces(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a server")
	}
	gocache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(gocache)))
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // where os.UserCacheDir looks
	var mu sync.Mutex
	var builds []string
	say := func(s string) { mu.Lock(); defer mu.Unlock(); builds = append(builds, s) }

	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			path, err := Install(t.Context(), Vminsert, say)
			if err != nil {
				t.Error(err)
				return
			}
			if out, err := exec.Command(path, "-version").CombinedOutput(); err != nil {
				t.Errorf("%s -version: %v\n%s", path, err, out)
			}
		})
	}
	wg.Wait()
	if len(builds) != 1 {
		t.Errorf("four processes built %d times: %q", len(builds), builds)
	}
	path, _ := Vminsert.Installed()
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "build-*")); len(left) > 0 {
		t.Errorf("building left %v", left)
	}
}

func TestInstallOfAnUnknownPartFails(t *testing.T) {
	if _, err := Install(t.Context(), "vmalert", nil); err == nil || !strings.Contains(err.Error(), `"vmalert" is no part`) {
		t.Fatalf("Install: %v", err)
	}
}

func TestWaitingForAnInstallHeedsTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lock(ctx, path); err == nil {
		t.Fatal("locked twice")
	}
	unlock()
	again, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}

// insert sends one sample with value 1 through vminsert, in a text format that needs no encoder.
func insert(t *testing.T, vminsert *Process, name string, ms int64) {
	t.Helper()
	url := fmt.Sprintf("%s/insert/0/prometheus/api/v1/import/prometheus", vminsert.URL())
	resp, err := http.Post(url, "text/plain", strings.NewReader(fmt.Sprintf("%s 1 %d\n", name, ms)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("insert: %s", resp.Status)
	}
}

// await polls until everything that vmselect exports for tenant 0 contains want.
func await(t *testing.T, c *Cluster, vmselect *Process, want string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		got, err = get(t, vmselect.URL()+`/select/0/prometheus/api/v1/export?match[]={__name__!=""}&start=0`)
		if err == nil && strings.Contains(got, want) {
			return
		}
	}
	t.Fatalf("%s never exports %s; last it was\n%s", vmselect.Name(), want, got)
}
