package downstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// dns is a Lookup with answers made up by the test.
type dns struct {
	mu    sync.Mutex
	hosts map[string][]string
	srv   map[string][]*net.SRV
	hangs bool
}

func (d *dns) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	if d.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	texts, ok := d.hosts[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var addrs []netip.Addr
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs, nil
}

func (d *dns) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	records, ok := d.srv[name]
	if !ok {
		return "", nil, errors.New("server misbehaving")
	}
	return "", records, nil
}

// set replaces what is answered.
func (d *dns) set(hosts map[string][]string, srv map[string][]*net.SRV) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hosts, d.srv = hosts, srv
}

func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// resolve returns the endpoints' names.
func resolve(t *testing.T, r *Resolver, list ...string) ([]string, error) {
	t.Helper()
	var parsed settings.URLs
	if err := parsed.UnmarshalText([]byte(strings.Join(list, ","))); err != nil {
		t.Fatal(err)
	}
	var urls []*url.URL
	for _, u := range parsed {
		urls = append(urls, u.URL)
	}
	endpoints, err := r.Resolve(t.Context(), urls)
	var names []string
	for _, ep := range endpoints {
		names = append(names, ep.String())
	}
	return names, err
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestEveryAddressOfAHostIsAnEndpoint(t *testing.T) {
	d := &dns{hosts: map[string][]string{"vm": {"10.0.0.2", "2001:db8::1", "::ffff:10.0.0.1", "10.0.0.2"}}}
	r := NewResolver(d, silent(), prometheus.NewRegistry())
	got, err := resolve(t, r, "http://vm:8480", "https://vm/path", "http://127.0.0.1:8480", "https://[::1]", "http://localhost:1", "http://vm:8480")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got,
		"vm/10.0.0.1:8480", "vm/10.0.0.2:8480", "vm/[2001:db8::1]:8480",
		"vm/10.0.0.1:443/path", "vm/10.0.0.2:443/path", "vm/[2001:db8::1]:443/path",
		"127.0.0.1:8480", "[::1]:443", "localhost:1")
}

func TestHostsAndPortsComeFromSRVRecords(t *testing.T) {
	d := &dns{
		hosts: map[string][]string{"vminsert-0.vm": {"10.0.0.1"}, "vminsert-1.vm": {"10.0.0.2", "10.0.0.3"}},
		srv:   map[string][]*net.SRV{"_http._tcp.vm": {{Target: "vminsert-1.vm.", Port: 8481}, {Target: "vminsert-0.vm.", Port: 8480}}},
	}
	r := NewResolver(d, silent(), prometheus.NewRegistry())
	u := settings.URL{}
	if err := u.UnmarshalText([]byte("dns+srv:https://me:hunter2@_http._tcp.vm/write")); err != nil {
		t.Fatal(err)
	}
	endpoints, err := r.Resolve(t.Context(), []*url.URL{u.URL})
	if err != nil || len(endpoints) != 3 {
		t.Fatalf("%v, %v", endpoints, err)
	}
	last := endpoints[2]
	if last.String() != "vminsert-1.vm/10.0.0.3:8481/write" || last.Base.String() != "https://me:hunter2@vminsert-1.vm:8481/write" {
		t.Errorf("got %s, %s", last, last.Base)
	}
	if s := u.String(); s != "dns+srv:https://me:***@_http._tcp.vm/write" {
		t.Errorf("the setting prints as %s", s)
	}
}

func TestFailedLookupKeepsTheAddresses(t *testing.T) {
	d := &dns{
		hosts: map[string][]string{"vm": {"10.0.0.1", "10.0.0.2"}, "vminsert-0.vm": {"10.0.0.1"}},
		srv:   map[string][]*net.SRV{"srv": {{Target: "vminsert-0.vm.", Port: 1}}},
	}
	reg := prometheus.NewRegistry()
	r := NewResolver(d, silent(), reg)
	want := []string{"vm/10.0.0.1:80", "vm/10.0.0.2:80", "vminsert-0.vm/10.0.0.1:1"}
	got, err := resolve(t, r, "http://vm", "dns+srv:http://srv")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got, want...)
	hosts, srv := d.hosts, d.srv
	for what, broken := range map[string]func(){
		"no such host": func() { d.set(nil, srv) },
		"no SRV":       func() { d.set(hosts, nil) },
		"nothing":      func() { d.set(map[string][]string{"vm": {}, "vminsert-0.vm": {}}, map[string][]*net.SRV{"srv": {}}) },
	} {
		broken()
		if got, err = resolve(t, r, "http://vm", "dns+srv:http://srv"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		expect(t, got, want...)
	}
	if n := counted(t, reg, "ingestgw_downstream_lookup_failures_total"); n < 4 {
		t.Errorf("%v failures counted", n)
	}
	d.set(map[string][]string{"vm": {"10.0.0.9"}, "vminsert-0.vm": {"10.0.0.1"}}, srv)
	got, err = resolve(t, r, "http://vm", "dns+srv:http://srv")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got, "vm/10.0.0.9:80", "vminsert-0.vm/10.0.0.1:1")
}

func TestUnknownHostIsToldAndTheOthersAreFound(t *testing.T) {
	r := NewResolver(&dns{hosts: map[string][]string{"vm": {"10.0.0.1"}}}, silent(), prometheus.NewRegistry())
	got, err := resolve(t, r, "http://vm", "http://vn")
	if err == nil || !strings.Contains(err.Error(), "vn") {
		t.Errorf("got %v", err)
	}
	expect(t, got, "vm/10.0.0.1:80")
}

func TestLookupThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewResolver(&dns{hangs: true}, silent(), prometheus.NewRegistry())
		begun := time.Now()
		_, err := resolve(t, r, "http://a", "http://b")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != lookupTimeout {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}

func TestUnusedAnswersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewResolver(&dns{hosts: map[string][]string{"old": {"10.0.0.1"}, "new": {"10.0.0.2"}}}, silent(), prometheus.NewRegistry())
		_, _ = resolve(t, r, "http://old")
		time.Sleep(forgetAfter + time.Second)
		_, _ = resolve(t, r, "http://new")
		if len(r.answers) != 1 {
			t.Errorf("%d answers are kept", len(r.answers))
		}
	})
}

func TestURLsThatCannotBeResolvedAreTold(t *testing.T) {
	for text, ok := range map[string]bool{
		"http://vm":               true,
		"https://vm:1/x":          true,
		"dns+srv:http://vm/x":     true,
		"dns+srv:https://vm":      true,
		"ftp://vm":                false,
		"dns+srv://vm":            false,
		"dns+srv:http://vm:8480":  false,
		"dns+srv:http://10.0.0.1": false,
		"dns:http://u:hunter2@vm": false,
	} {
		var u settings.URL
		err := u.UnmarshalText([]byte(text))
		if err == nil {
			err = CheckURL(u.URL)
		}
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// counted is the sum of a metric over its labels.
func counted(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func TestNamesThatCannotBeLookedUpAreListed(t *testing.T) {
	d := &dns{hosts: map[string][]string{"vm": {"10.0.0.2"}}}
	r := NewResolver(d, silent(), prometheus.NewRegistry())
	if _, err := resolve(t, r, "http://vm:1", "http://none:1"); err == nil {
		t.Error("no error")
	}
	d.set(nil, nil)
	if got, err := resolve(t, r, "http://vm:1"); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	all := r.Failing()
	if len(all) != 2 || all[0].Name != "none" || all[0].Known || all[1].Name != "vm" || !all[1].Known || !strings.Contains(all[1].Error, "no such host") {
		t.Errorf("%+v", all)
	}
	d.set(map[string][]string{"vm": {"10.0.0.2"}, "none": {"10.0.0.3"}}, nil)
	if _, err := resolve(t, r, "http://vm:1", "http://none:1"); err != nil || len(r.Failing()) != 0 {
		t.Errorf("%v, %+v", err, r.Failing())
	}
}
