package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/access"
)

// A desk is a Mapping that has to ask: the values of org are numbers of accounts, and each takes its time.
type desk struct {
	patience time.Duration
	takes    func(value string) time.Duration
	down     map[string]bool

	mu             sync.Mutex
	asked          map[string]int
	atOnce, atMost int
}

func (d *desk) Labels() []string { return []string{"org"} }

func (d *desk) Patience() time.Duration { return d.patience }

func (d *desk) enter(value string, by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked == nil {
		d.asked = map[string]int{}
	}
	d.atOnce += by
	d.atMost = max(d.atMost, d.atOnce)
	if by > 0 {
		d.asked[value]++
	}
}

func (d *desk) Find(ctx context.Context, values ...[]byte) (*tenant.Profile, error) {
	value := string(values[0])
	d.enter(value, 1)
	defer d.enter(value, -1)
	if d.takes != nil {
		select {
		case <-time.After(d.takes(value)):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", tenant.ErrUnavailable, context.Cause(ctx))
		}
	}
	if d.down[value] {
		return nil, fmt.Errorf("%w: a malformed answer about %q", tenant.ErrUnavailable, value)
	}
	account, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%w: %q", tenant.ErrUnnamed, value)
	}
	return &tenant.Profile{ID: tenant.ID{Account: uint32(account)}}, nil
}

// Identify lets everybody name tenants.
func (d *desk) Identify(context.Context, *http.Request, access.Name) (*tenant.Sender, error) {
	return &tenant.Sender{Credential: "hosts", Mapping: d}, nil
}

// orgs is a message of two series for each of n values.
func orgs(n int) []byte {
	var series [][]string
	for i := range 2 * n {
		series = append(series, named("m", "org", strconv.Itoa(i%n)))
	}
	return freshly(series...)
}

func TestValuesAreAskedForTogetherAndEachOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{patience: 2 * time.Second, takes: func(string) time.Duration { return 40 * time.Millisecond }}
		sh, began := newSharing(d), time.Now()
		sh.read(orgs(320))
		sh.find(t.Context())
		if took := time.Since(began); took != 400*time.Millisecond {
			t.Errorf("320 values of 40 ms each took %v, want ten times 40 ms", took)
		}
		if d.atMost != 32 || len(d.asked) != 320 || len(sh.tenants) != 320 {
			t.Errorf("%d at once, %d values asked for, %d tenants", d.atMost, len(d.asked), len(sh.tenants))
		}
		for value, times := range d.asked {
			if times != 1 {
				t.Errorf("%s was asked for %d times", value, times)
			}
		}
	})
}

func TestAllValuesOfARequestTogetherTakeNoLongerThanOneMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{patience: 2 * time.Second, takes: func(value string) time.Duration {
			if n, _ := strconv.Atoi(value); n >= 64 { // known
				return 0
			}
			return 1500 * time.Millisecond
		}}
		sh, began := newSharing(d), time.Now()
		message := orgs(100)
		sh.read(message)
		sh.find(t.Context())
		sh.count(message)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %v, want 2s", took)
		}
		if len(sh.tenants) < 32 || sh.late.series == 0 || sh.late.series+2*len(sh.tenants) != 200 || !errors.Is(sh.lateErr, tenant.ErrUnavailable) {
			t.Errorf("%d tenants, %d series of others: %v", len(sh.tenants), sh.late.series, sh.lateErr)
		}
		for _, n := range sh.names[64:] { // what is known is found, however late it is
			if n.err != nil && !errors.Is(n.err, tenant.ErrUnavailable) {
				t.Errorf("%s: %v", n.values, n.err)
			}
		}
	})
}

func TestWhoNeverWaitsIsAskedInPlace(t *testing.T) {
	d := &desk{}
	sh := newSharing(d)
	sh.read(orgs(100))
	sh.find(t.Context())
	if d.atMost != 1 || len(sh.tenants) != 100 {
		t.Errorf("%d at once, %d tenants", d.atMost, len(sh.tenants))
	}
}

func TestWhatCannotBeFoundOutNowKeepsNoOtherFromBeingStored(t *testing.T) {
	d := &desk{patience: time.Minute, down: map[string]bool{"3": true}}
	g := startWith(t, defaults(), d, 64<<20, &shelf{})
	message := freshly(named("a", "org", "1"), named("b", "org", "3"), named("c", "org", "2"), named("d", "org", "nobody"))
	for range 2 {
		g.shelf.blocks = nil
		resp, text := g.sendAs(t, "", message)
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(text, "of 4 series the tenants of 1 cannot be found out now") {
			t.Errorf("got %s %q", resp.Status, text)
		}
		g.want(t, "1:0 __name__=a,org=1 {}", "2:0 __name__=c,org=2 {}")
	}
	for _, account := range []uint32{1, 2} { // it comes again, and counts once
		about, _ := g.limits.Describe(tenant.ID{Account: account})
		if about.Refused["unavailable"].Requests != 2 || about.LastError != errComesAgain.Error() {
			t.Errorf("tenant %d: refused %v, last error %q", account, about.Refused, about.LastError)
		}
	}
	if resp, text := g.sendAs(t, "", freshly(named("b", "org", "3"))); resp.StatusCode != 503 {
		t.Errorf("nothing else: got %s %q", resp.Status, text)
	}
	delete(d.down, "3")
	g.shelf.blocks = nil
	if resp, text := g.sendAs(t, "", message); resp.StatusCode != 400 || !strings.Contains(text, "1 of no tenant") {
		t.Errorf("once it is known: got %s %q", resp.Status, text)
	}
	g.want(t, "1:0 __name__=a,org=1 {}", "2:0 __name__=c,org=2 {}", "3:0 __name__=b,org=3 {}")
}

// The tenant of an invalid series is only wanted for counting.
func TestAnInvalidSeriesOfATenantThatCannotBeFoundOutDoesNotComeAgain(t *testing.T) {
	d := &desk{patience: time.Minute, down: map[string]bool{"3": true}}
	g := startWith(t, defaults(), d, 64<<20, &shelf{})
	resp, text := g.sendAs(t, "", freshly(named("a", "org", "1"), named("b", "org", "3", "x", "1", "x", "2")))
	if resp.StatusCode != 400 || !strings.Contains(text, "of 2 series 1 breaks a rule") {
		t.Errorf("got %s %q", resp.Status, text)
	}
	g.want(t, "1:0 __name__=a,org=1 {}")
}

func TestTheMessageIsSharedOutByName(t *testing.T) {
	sh := newSharing(&desk{})
	message := freshly(named("a", "org", "7"), named("b", "org", "x"), named("c", "org", "7"), named("d"))
	sh.read(message)
	sh.find(t.Context())
	sh.count(message)
	var got []string
	for _, p := range sh.divide(new(decoder), message) {
		for v := range remotewrite.Series(p.Message) {
			got = append(got, string(v.Get("__name__")))
		}
	}
	if !slices.Equal(got, []string{"a", "c"}) || sh.refused.unnamed.series != 2 || sh.refused.unnamed.samples != 2 {
		t.Errorf("%q shared out, %+v refused", got, sh.refused.unnamed)
	}
}
