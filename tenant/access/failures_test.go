package access

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/tenant"
)

func from(address string, r *http.Request) *http.Request {
	r.RemoteAddr = address
	return r
}

func TestWhoGuessesIsNotLookedAtAnyMore(t *testing.T) {
	file := writeFile(t, acme)
	synctest.Test(t, func(t *testing.T) {
		a := newAccess(t, Config{Mode: ModeFile, File: file, FailuresPerMinute: 3})
		send := func(address string, headers []string) error {
			_, err := a.Identify(t.Context(), from(address, request(headers...)), Name{})
			return err
		}
		expect := func(what string, got, want error) {
			t.Helper()
			if !errors.Is(got, want) || want == nil && got != nil {
				t.Errorf("%s: got %v, want %v", what, got, want)
			}
		}
		expect("a good one before", send("10.0.0.1:1", bearerOf("agent's token")), nil)
		for i := range 10 {
			expect("none at all", send("10.0.0.1:1", nil), tenant.ErrUnauthorized)
			if i < 3 {
				expect("a guess", send("10.0.0.1:1", bearerOf(fmt.Sprint("guess", i))), tenant.ErrUnauthorized)
			}
		}
		expect("one guess more", send("10.0.0.1:2", bearerOf("guess")), tenant.ErrTooManyFailures)
		expect("a guess at a password", send("10.0.0.1:2", basicOf("acme", "guess")), tenant.ErrTooManyFailures)
		expect("a malformed header", send("10.0.0.1:2", []string{"Authorization", "x"}), tenant.ErrTooManyFailures)
		expect("one that is right and was not used before", send("10.0.0.1:2", bearerOf("13's token")), tenant.ErrTooManyFailures)
		expect("one that was right before", send("10.0.0.1:2", bearerOf("agent's token")), nil)
		expect("none at all", send("10.0.0.1:2", nil), tenant.ErrUnauthorized)
		expect("from elsewhere", send("10.0.0.2:1", bearerOf("guess")), tenant.ErrUnauthorized)
		time.Sleep(21 * time.Second) // a third of a minute and a bit
		expect("one that is right, later", send("10.0.0.1:2", bearerOf("13's token")), nil)
		expect("a guess, later", send("10.0.0.1:2", bearerOf("guess")), tenant.ErrUnauthorized)
		expect("and one more", send("10.0.0.1:2", bearerOf("guess")), tenant.ErrTooManyFailures)
		if err := a.Reload(); err != nil {
			t.Fatal(err)
		}
		expect("one that was right, after a reload", send("10.0.0.1:2", bearerOf("13's token")), nil)
		if n := testutil.ToFloat64(a.metrics.requests[4]); n != 5 || results[4].label != "too_many_failures" {
			t.Errorf("%v requests are counted as %s, want 5", n, results[4].label)
		}
	})
}

func TestAnIPv6SubnetIsOneAddress(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1:1", "10.0.0.1:2", true},
		{"10.0.0.1:1", "10.0.0.2:1", false},
		{"10.0.0.1:1", "[::ffff:10.0.0.1]:1", true},
		{"[2001:db8::1]:1", "[2001:db8::ffff:1]:1", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[fe80::1%eth0]:1", "[fe80::1%eth1]:1", true},
		{"@", "", true},
	} {
		if got := addressOf(c.a) == addressOf(c.b); got != c.same {
			t.Errorf("%s and %s: same is %v", c.a, c.b, got)
		}
	}
}

func TestTheMemoryOfFailuresIsBounded(t *testing.T) {
	f := newFailures(1)
	for i := range maxAddresses + 1000 {
		f.count(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	if n := f.addresses.Len(); n != maxAddresses {
		t.Errorf("%d addresses are kept, want %d", n, maxAddresses)
	}
	if !f.tooMany(fmt.Sprintf("10.0.%d.%d:1", (maxAddresses+999)>>8, (maxAddresses+999)&255)) {
		t.Error("the last one is forgotten")
	}
	none := newFailures(0)
	for range 100 {
		none.count("10.0.0.1:1")
	}
	if none.tooMany("10.0.0.1:1") {
		t.Error("a limit of 0 limits")
	}
}

func TestWhatWasRightIsRememberedForAWhile(t *testing.T) {
	var p proven
	of := func(i int) *digest { d := bearerDigest(fmt.Sprint(i)); return &d }
	const n = 3*maxProven + 5
	for i := range n {
		p.add(of(i))
		p.add(of(i))
	}
	if len(p.now) > maxProven || len(p.before) > maxProven {
		t.Errorf("%d and %d are kept", len(p.now), len(p.before))
	}
	for i := n - maxProven; i < n; i++ {
		if !p.has(of(i)) {
			t.Fatalf("%d is forgotten", n-i)
		}
	}
	if p.has(of(0)) {
		t.Error("the first is still kept")
	}
}

// FuzzNoHeaderGetsInButTheRightOnes sends any header to a table with two secrets.
func FuzzNoHeaderGetsInButTheRightOnes(f *testing.F) {
	for _, s := range []string{
		"Bearer agent's token", "bearer  agent's token ", "Basic YWNtZTpwYXNzd29yZA==", "Basic Og==", "Bearer", "", " ", "Basic YWNtZQ==",
		"Bearer e30.e30.e30", "\x00", "Bearer " + sha("agent's token"), "basic YWNtZTpwYXNzd29yZA==",
	} {
		f.Add(s)
	}
	a := ofText(f, acme)
	a.failures = newFailures(0)
	right := func(header string) bool {
		scheme, secret, _ := strings.Cut(header, " ")
		secret = strings.Trim(secret, " ")
		if strings.EqualFold(scheme, "bearer") {
			return strings.Contains(acme, sha(secret))
		}
		text, err := base64.StdEncoding.DecodeString(secret)
		return strings.EqualFold(scheme, "basic") && err == nil && (string(text) == "acme:password" || string(text) == "acme:next password")
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := request()
		r.Header["Authorization"] = []string{header}
		s, err := a.Identify(context.Background(), r, Name{})
		if err == nil && !right(header) {
			t.Fatalf("%q is %s", header, s.Credential)
		}
		if err != nil && !errors.Is(err, tenant.ErrUnauthorized) && !errors.Is(err, tenant.ErrUnnamed) {
			t.Fatalf("%q: %v", header, err)
		}
	})
}

// FuzzHeadersNeverNameTwoTenants reads any headers that name tenants.
func FuzzHeadersNeverNameTwoTenants(f *testing.F) {
	f.Add("1", "2", "1:2")
	f.Add("multitenant", "", "acme")
	f.Add("", "", "0")
	f.Add("007", "+1", "12:3")
	f.Fuzz(func(t *testing.T, account, project, scope string) {
		h := http.Header{accountHeader: {account}, projectHeader: {project}, scopeHeader: {scope}}
		n, err := nameOf(h, Name{})
		if err != nil {
			if !errors.Is(err, tenant.ErrUnnamed) || n != (Name{}) {
				t.Fatalf("%v, %v", n, err)
			}
			return
		}
		if id, err := tenant.Parse(scope); err == nil && n.ID != id {
			t.Fatalf("%q, %q and %q are %v", account, project, scope, n)
		}
		if again, err := nameOf(h, n); err != nil || again != n {
			t.Fatalf("with %v in the path: %v, %v", n, again, err)
		}
	})
}
