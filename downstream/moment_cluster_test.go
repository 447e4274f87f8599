package downstream

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// What TestPollsAtOneMomentShareAPage measures.
var (
	momentTenants = flag.Int("moment.tenants", 2000, "how many tenants the vminsert has met")
	momentCount   = flag.Int("moment.count", 2, "at how many moments each number of pollers asks it")
)

// Whoever asks a real v1.100 vminsert at one moment is given one page. The log says what that costs it; the cost of polls in watch.go is from
//
//	go test ./downstream -run PollsAtOneMoment -v -moment.tenants=100000
func TestPollsAtOneMomentShareAPage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	storage := stack.Start(t, stack.VmstorageSpec("vmstorage"))
	vminsert := stack.Start(t, stack.VminsertSpec("vminsert", storage))
	meetTenants(t, vminsert.URL(), *momentTenants)
	ep := endpointAt(t, vminsert.URL())
	idle := rest(t, vminsert, 2*time.Second) / 2 // a second
	for _, pollers := range []int{1, 5, 30} {
		var spent, size float64
		for range *momentCount {
			time.Sleep(CacheAge + 100*time.Millisecond) // by then the page that the server keeps is too old for it
			before := used(t, vminsert)
			begun := time.Now()
			pages := pollAtOnce(t, ep, pollers)
			took := time.Since(begun)
			spent += (used(t, vminsert) - before).Seconds() - idle.Seconds()*took.Seconds()
			size = float64(pages[0].Size)
			if n := distinct(pages); n > 1+int(took/CacheAge) {
				t.Errorf("%d pollers were given %d pages within %s", pollers, n, took)
			}
		}
		t.Logf("%d pollers of a page of %.1f MB: %.1f ms of CPU a moment", pollers, size/1e6, spent/float64(*momentCount)*1e3)
	}
}

// distinct counts pages by how much CPU their server had used.
func distinct(pages []*Reading) int {
	seen := map[float64]bool{}
	for _, r := range pages {
		seen[r.CPU] = true
	}
	return len(seen)
}

func pollAtOnce(t *testing.T, ep Endpoint, pollers int) []*Reading {
	t.Helper()
	pages, errs := make([]*Reading, pollers), make(chan error)
	for i := range pollers {
		client := newPoller(ep, load(t, ClientConfig{}))
		go func() { // ends with its poll, which is waited for
			defer client.Close()
			var err error
			pages[i], err = client.Read(t.Context(), ep, VMInsert)
			errs <- err
		}()
	}
	var all error
	for range pollers {
		all = errors.Join(all, <-errs)
	}
	if all != nil {
		t.Fatal(all)
	}
	return pages
}

// rest is what a server uses while it is left alone.
func rest(t *testing.T, p *stack.Process, d time.Duration) time.Duration {
	t.Helper()
	before := used(t, p)
	time.Sleep(d)
	return used(t, p) - before
}

func used(t *testing.T, p *stack.Process) time.Duration {
	t.Helper()
	u, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u.CPU
}

// meetTenants makes a vminsert count rows of so many tenants. It does so in four protocols, each with its own counters, because v1.100 copies
// those of one for each new tenant.
func meetTenants(t *testing.T, vminsert string, tenants int) {
	t.Helper()
	ways := []struct{ path, row string }{
		{"prometheus/api/v1/import/prometheus", "met{vm_account_id=\"%d\"} 1\n"},
		{"prometheus/api/v1/import", "{\"metric\":{\"__name__\":\"met\",\"vm_account_id\":\"%d\"},\"values\":[1],\"timestamps\":[1700000000000]}\n"},
		{"prometheus/api/v1/import/csv?format=1:metric:met,2:label:vm_account_id", "1,%d\n"},
		{"influx/write", "met,vm_account_id=%d v=1\n"},
	}
	const perRequest = 1000
	for _, way := range ways {
		for from := 0; from < tenants/len(ways); from += perRequest {
			var rows bytes.Buffer
			for account := from; account < min(from+perRequest, tenants/len(ways)); account++ {
				fmt.Fprintf(&rows, way.row, account)
			}
			resp, err := http.Post(vminsert+"/insert/multitenant/"+way.path, "text/plain", &rows)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode/100 != 2 {
				t.Fatalf("%s: answered %s", way.path, resp.Status)
			}
		}
	}
}
