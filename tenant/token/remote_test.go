package token

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/direct"
	"github.com/ingestgw/ingestgw/tenant/token/tokentest"
)

// start runs a Verifier of a key set in a synctest bubble.
func start(t *testing.T, keys *tokentest.KeySet, change func(*Config)) *Verifier {
	t.Helper()
	cfg := config(t)
	cfg.JwksURL.URL = &url.URL{Scheme: "http", Host: "login.invalid", Path: "/keys"}
	if change != nil {
		change(&cfg)
	}
	v, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	v.remote.client.Transport = direct.To(keys)
	run(t, v)
	return v
}

func TestRotatedKeysAreTakenWithoutRestartAndOldOnesGo(t *testing.T) {
	first, second := tokentest.NewKey(t, "1", "ES256"), tokentest.NewKey(t, "2", "RS256")
	synctest.Test(t, func(t *testing.T) {
		keys := tokentest.NewKeySet(t, first)
		v := start(t, keys, nil)
		synctest.Wait() // a token that comes before the set has been read makes it be read once more
		claims := tokentest.For(1, 0).With("exp", time.Now().Add(24*time.Hour).Unix())
		old := first.Sign(t, claims)
		expect(t, v, old, "1:0")
		keys.Set(t, first, second)
		expect(t, v, second.Sign(t, claims), "1:0") // at once
		expect(t, v, old, "1:0")
		keys.Set(t, second)
		time.Sleep(v.remote.every)
		synctest.Wait()
		expect(t, v, old, "401")
		expect(t, v, old, "401")
		expect(t, v, second.Sign(t, claims), "1:0")
	})
}

func TestAKeySetThatIsDownIsNotASendersFault(t *testing.T) {
	k, next := tokentest.NewKey(t, "1", "ES256"), tokentest.NewKey(t, "2", "ES256")
	for name, down := range map[string]func(*tokentest.KeySet){
		"broken":    func(s *tokentest.KeySet) { s.Break(http.StatusServiceUnavailable) },
		"not found": func(s *tokentest.KeySet) { s.Break(http.StatusNotFound) },
		"slow":      func(s *tokentest.KeySet) { s.Delay(time.Hour) },
		"a page":    func(s *tokentest.KeySet) { s.SetBody([]byte("<html>")) },
		"empty":     func(s *tokentest.KeySet) { s.SetBody([]byte(`{"keys":[]}`)) },
		"too large": func(s *tokentest.KeySet) { s.SetBody([]byte(strings.Repeat(" ", maxKeySet+1))) },
		"of secrets": func(s *tokentest.KeySet) {
			s.SetBody([]byte(`{"keys":[{"kty":"oct","kid":"2","k":"c2VjcmV0","alg":"HS256"}]}`))
		},
	} {
		t.Run(name+" at the start", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keys := tokentest.NewKeySet(t, k)
				down(keys)
				v := start(t, keys, nil)
				for range 5 {
					expect(t, v, k.Sign(t, tokentest.For(1, 0)), "503")
					expect(t, v, k.As("", "ES256").Sign(t, tokentest.For(1, 0)), "503")
					time.Sleep(time.Second)
				}
				keys.Break(0)
				keys.Delay(0)
				keys.Set(t, k)
				time.Sleep(fetchPause + fetchTimeout)
				expect(t, v, k.Sign(t, tokentest.For(1, 0)), "1:0")
			})
		})
		t.Run(name+" later", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keys := tokentest.NewKeySet(t, k)
				v := start(t, keys, nil)
				synctest.Wait() // for the set
				claims := tokentest.For(1, 0).With("exp", time.Now().Add(100*time.Hour).Unix())
				expect(t, v, k.Sign(t, claims), "1:0")
				down(keys)
				for range 5 {
					time.Sleep(7 * time.Minute)
					expect(t, v, k.Sign(t, claims), "1:0")
					expect(t, v, next.Sign(t, claims), "503")
					expect(t, v, next.Sign(t, claims), "503")
				}
			})
		})
	}
}

func TestNobodyCanMakeUsHammerTheIssuer(t *testing.T) {
	k, forger := tokentest.NewKey(t, "1", "EdDSA"), tokentest.NewKey(t, "", "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		keys := tokentest.NewKeySet(t, k)
		v := start(t, keys, nil)
		synctest.Wait() // for the set
		expect(t, v, k.Sign(t, tokentest.For(1, 0)), "1:0")
		before := keys.Reads()
		const minutes = 4
		began := time.Now()
		for i := 0; time.Since(began) < minutes*time.Minute; i++ {
			for j := range 5 {
				if got := said(v.Verify(t.Context(), forger.As(fmt.Sprint("forged", i, j), "EdDSA").Sign(t, tokentest.For(1, 0)))); got != "401" && got != "503" {
					t.Fatalf("a forged token: %s", got)
				}
			}
			time.Sleep(time.Second)
		}
		if reads := keys.Reads() - before; reads > minutes*6+1 {
			t.Errorf("%d readings within %d minutes", reads, minutes)
		}
		expect(t, v, k.Sign(t, tokentest.For(1, 0)), "1:0")
	})
}

func TestManyTokensWithANewKeyReadTheSetOnce(t *testing.T) {
	k, next := tokentest.NewKey(t, "1", "EdDSA"), tokentest.NewKey(t, "2", "EdDSA")
	for want, set := range map[string][]*tokentest.Key{"1:0": {k, next}, "401": {k}} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keys := tokentest.NewKeySet(t, k)
				v := start(t, keys, nil)
				synctest.Wait() // a token that comes before the set has been read makes it be read once more
				expect(t, v, k.Sign(t, tokentest.For(1, 0)), "1:0")
				before := keys.Reads()
				keys.Set(t, set...)
				keys.Delay(time.Second)
				var all sync.WaitGroup
				for range 100 {
					all.Go(func() { expect(t, v, next.Sign(t, tokentest.For(1, 0)), want) })
				}
				all.Wait()
				expect(t, v, next.Sign(t, tokentest.For(1, 0)), want) // it is known by now
				if reads := keys.Reads() - before; reads != 1 {
					t.Errorf("%d readings", reads)
				}
			})
		})
	}
}

func TestAKeyThatComesRightAfterAReadingIsNotRefusedForGood(t *testing.T) {
	k, second, third := tokentest.NewKey(t, "1", "EdDSA"), tokentest.NewKey(t, "2", "EdDSA"), tokentest.NewKey(t, "3", "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		keys := tokentest.NewKeySet(t, k)
		v := start(t, keys, nil)
		synctest.Wait() // for the set
		expect(t, v, k.Sign(t, tokentest.For(1, 0)), "1:0")
		expect(t, v, second.Sign(t, tokentest.For(1, 0)), "401")
		keys.Set(t, k, third)
		expect(t, v, third.Sign(t, tokentest.For(1, 0)), "503")
		time.Sleep(fetchPause)
		expect(t, v, third.Sign(t, tokentest.For(1, 0)), "1:0")
	})
}

func TestAWaitForKeysEndsWithTheRequest(t *testing.T) {
	k := tokentest.NewKey(t, "1", "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		keys := tokentest.NewKeySet(t, k)
		keys.Delay(time.Hour)
		v := start(t, keys, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if got := said(v.Verify(ctx, k.Sign(t, tokentest.For(1, 0)))); got != "503" || time.Since(began) != time.Second {
			t.Errorf("%s after %v", got, time.Since(began))
		}
	})
}

func TestFilesAndAKeySetGoTogether(t *testing.T) {
	filed, served, forger := tokentest.NewKey(t, "f", "ES256"), tokentest.NewKey(t, "s", "ES256"), tokentest.NewKey(t, "f", "ES256")
	name := file(t, filed.PEM(t))
	synctest.Test(t, func(t *testing.T) {
		keys := tokentest.NewKeySet(t, served)
		v := start(t, keys, func(c *Config) { c.KeysFile = name })
		synctest.Wait() // for the set
		expect(t, v, filed.Sign(t, tokentest.For(1, 0)), "1:0")
		expect(t, v, filed.As("s", "ES256").Sign(t, tokentest.For(1, 0)), "1:0")
		expect(t, v, served.Sign(t, tokentest.For(1, 0)), "1:0")
		expect(t, v, forger.Sign(t, tokentest.For(1, 0)), "401")
		keys.Break(http.StatusBadGateway)
		time.Sleep(v.remote.every)
		expect(t, v, filed.Sign(t, tokentest.For(1, 0)), "1:0")
		expect(t, v, served.Sign(t, tokentest.For(1, 0)), "1:0")
		expect(t, v, forger.Sign(t, tokentest.For(1, 0)), "503")
	})
}

func TestKeysOfNoUseInASetArePassedOver(t *testing.T) {
	k := tokentest.NewKey(t, "1", "EdDSA")
	w := httptest.NewRecorder()
	tokentest.NewKeySet(t, k).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	good := strings.TrimSuffix(strings.TrimPrefix(w.Body.String(), `{"keys":[`), `]}`)
	other := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	for name, c := range map[string]struct {
		keys string
		want int
	}{
		"good":                  {good, 1},
		"with members unknown":  {other(`{`, `{"more":{"y":[1]},`), 1},
		"without use":           {other(`"use":"sig"`, `"more":"y"`), 1},
		"a new kind before":     {`{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"},` + good, 1},
		"a secret before":       {`{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0","kid":"1"},` + good, 1},
		"garbage before":        {`5,null,[],"x",` + good, 1},
		"for encryption":        {other(`"use":"sig"`, `"use":"enc"`), 0},
		"for signing only":      {other(`{`, `{"key_ops":["sign"],`), 0},
		"for verifying":         {other(`{`, `{"key_ops":["verify"],`), 1},
		"for another algorithm": {other(`"alg":"EdDSA"`, `"alg":"RS256"`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := parseKeySet([]byte(`{"keys":[`+c.keys+`]}`), algorithms)
			if len(keys) != c.want || (err == nil) != (c.want > 0) {
				t.Errorf("%d keys, %v", len(keys), err)
			}
		})
	}
}
