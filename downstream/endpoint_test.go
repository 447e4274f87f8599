package downstream

import (
	"net/url"
	"strings"
	"testing"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestEndpointNamesItselfWithoutSecrets(t *testing.T) {
	for _, test := range []struct{ base, addr, name, post, metrics string }{
		{"http://10.0.0.7:8480", "10.0.0.7:8480", "10.0.0.7:8480", "http://10.0.0.7:8480/insert/x", "http://10.0.0.7:8480/metrics"},
		{"http://vminsert-0", "10.0.0.7:80", "vminsert-0/10.0.0.7:80", "http://vminsert-0/insert/x", "http://vminsert-0/metrics"},
		{"http://[::1]:8480/", "[::1]:8480", "[::1]:8480", "http://[::1]:8480/insert/x", "http://[::1]:8480/metrics"},
		{
			"https://me:hunter2@vm.example/api/v1/write?key=hunter2", "10.0.0.7:443", "vm.example/10.0.0.7:443/api/v1/write",
			"https://me:hunter2@vm.example/api/v1/write?key=hunter2", "https://me:hunter2@vm.example/metrics",
		},
	} {
		ep := Endpoint{Base: mustURL(t, test.base), Addr: test.addr}
		if got := ep.String(); got != test.name || strings.Contains(got, "hunter2") {
			t.Errorf("%s is called %s, want %s", test.base, got, test.name)
		}
		if got := ep.URL("/insert/x").String(); got != test.post {
			t.Errorf("%s is posted to at %s, want %s", test.base, got, test.post)
		}
		if got := ep.MetricsURL().String(); got != test.metrics {
			t.Errorf("%s has its metrics at %s, want %s", test.base, got, test.metrics)
		}
	}
}
