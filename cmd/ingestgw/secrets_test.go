package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Parts of every planted secret. Header values and passwords are also looked for in base64, as basic authentication has them.
const planted = "hunter2planted"

// plantSecrets returns settings with a secret wherever one can stand. Basic authentication and bearer tokens exclude each other.
func plantSecrets(t *testing.T, base *url.URL, basicAuth bool) []string {
	t.Helper()
	file := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(planted+name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hash := sha256.Sum256([]byte(planted))
	table := filepath.Join(t.TempDir(), "tenants.yaml")
	if err := os.WriteFile(table, []byte("tenants:\n- {id: \"1:0\", credentials: [{bearer_sha256: "+hex.EncodeToString(hash[:])+"}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host := base.Host
	list := []string{
		"FORWARD_URLS=http://user:" + planted + "@" + host + ",http://" + planted + "@" + host + "/token?authKey=" + planted + ",http://127.0.0.1:1/" +
			"?token=" + planted,
		"FORWARD_STORAGE_URLS=http://user:" + planted + "@" + host + ",http://user:" + planted + "@127.0.0.1:1,http://" + host + "/?authKey=" + planted,
		"VMSELECT_URLS=http://user:" + planted + "@" + host + ",http://user:" + planted + "@127.0.0.1:1",
		"FORWARD_HEADERS=X-Key: " + planted + "^^X-Other: " + planted,
		"FORWARD_METRICS_AUTH_KEY_FILE=" + file("metrics"),
		"TENANT_MODE=directory",
		"TENANT_FILE=" + table,
		"TENANT_DIRECTORY_URL=http://user:" + planted + "@" + host + "/lookup?token=" + planted,
		"TENANT_DIRECTORY_BEARER_TOKEN_FILE=" + file("directory"),
		"TENANT_JWT_JWKS_URL=http://user:" + planted + "@" + host + "/keys?authKey=" + planted,
		"TENANT_JWT_SECRET_FILE=" + file("jwt-secret-of-more-than-32-bytes"),
		"TENANT_JWT_ALGORITHMS=RS256,HS256",
		"ADMIN_TOKEN_FILE=" + file("of-the-operators"),
		"ALARM_ALERTMANAGER_URLS=http://user:" + planted + "@" + host + ",http://" + host + "/elsewhere",
		"ALARM_ALERTMANAGER_TOKEN_FILE=" + file("alertmanager"),
		"ALARM_WEBHOOK_URL=http://" + host + "/hook/" + planted + "?key=" + planted,
		"ALARM_WEBHOOK_TOKEN_FILE=" + file("webhook"),
		"KAFKA_SASL_MECHANISM=plain", "KAFKA_SASL_USER=operator", "KAFKA_SASL_PASSWORD_FILE=" + file("kafka"),
	}
	if basicAuth {
		return append(list, "FORWARD_BASIC_AUTH_USER=operator", "FORWARD_BASIC_AUTH_PASSWORD_FILE="+file("password"))
	}
	return append(list, "FORWARD_BEARER_TOKEN_FILE="+file("bearer"))
}

func lookForSecrets(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range []string{planted, url.QueryEscape(":" + planted), base64.StdEncoding.EncodeToString([]byte("user:" + planted)),
		base64.StdEncoding.EncodeToString([]byte(planted))} {
		if i := strings.Index(text, form); i >= 0 {
			t.Errorf("%s shows a secret: %q", where, text[max(0, i-200):min(len(text), i+40)])
		}
	}
}

// badNode is a server that is in trouble in every way, and remembers whether it was shown a secret.
type badNode struct {
	mu      sync.Mutex
	headers http.Header
	queries string
	calls   int
}

func (b *badNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	for name, values := range r.Header {
		b.headers[name] = append(b.headers[name], values...)
	}
	b.queries += r.URL.RawQuery + "\n"
	switch b.calls % 5 {
	case 0:
		http.Error(w, "unauthorized", http.StatusUnauthorized)
	case 1:
		http.Error(w, "unsupported path", http.StatusBadRequest)
	case 2:
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	case 3:
		panic(http.ErrAbortHandler) // the connection breaks
	default:
		http.Error(w, "overloaded", http.StatusServiceUnavailable)
	}
}

func (b *badNode) saw(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !strings.Contains(strings.Join(b.headers["X-Key"], " "), planted) || len(b.headers["Authorization"]) == 0 {
		t.Errorf("the secrets were never used, so nothing was tested: %d calls, headers %v", b.calls, b.headers)
	}
}

// Whatever setting can hold a secret has to be among those that the test plants one in.
func TestSecretsArePlantedInEverySettingThatCanHoldOne(t *testing.T) {
	base := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	has := map[string]bool{}
	for _, s := range append(plantSecrets(t, base, true), plantSecrets(t, base, false)...) {
		name, _, _ := strings.Cut(s, "=")
		has["INGESTGW_"+name] = true
	}
	for _, s := range described() {
		holds := s.Type == "secret" || s.Type == "URL" || s.Type == "URLs"
		for _, word := range []string{"PASSWORD", "TOKEN", "SECRET", "AUTH_KEY"} {
			holds = holds || strings.Contains(s.Name, word)
		}
		if s.Name == "INGESTGW_ALARM_PAGE_URL" { // everybody who gets an alert sees it, so that no secret is taken in it
			continue
		}
		if holds && !has[s.Name] {
			t.Errorf("no secret is planted in %s", s.Name)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	node := &badNode{headers: http.Header{}}
	server := fakeServer(t, node.ServeHTTP)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, basicAuth := range map[string]bool{"basic": true, "bearer": false} {
		t.Run(name, func(t *testing.T) {
			for _, s := range plantSecrets(t, base, basicAuth) {
				variable, value, _ := strings.Cut(s, "=")
				t.Setenv("INGESTGW_"+variable, value)
			}
			t.Setenv("INGESTGW_BUFFER_DIR", t.TempDir())
			t.Setenv("INGESTGW_ADMIN_LISTEN", "127.0.0.1:0")
			for _, command := range []string{"config", "config -markdown", "check"} {
				stdout, stderr, _ := output(strings.Fields(command)...)
				lookForSecrets(t, "ingestgw "+command, stdout+stderr)
				if command == "config" && strings.Count(stdout, "***") < 6 {
					t.Errorf("ingestgw config masks less than was planted:\n%s", stdout)
				}
			}
		})
	}
	node.saw(t)
}

func TestSecretsAreNotInComplaints(t *testing.T) {
	for variable, values := range map[string][]string{
		"FORWARD_URLS": {
			"http://user:" + planted, "http://user:" + planted + "@host:port", "user:" + planted + "@host", "http://user:" + planted + "%zz@host",
			"ftp://user:" + planted + "@host", "http://user:" + planted + "@", "dns+srv:http://user:" + planted + "@host:80",
			"http://host:x?authKey=" + planted,
		},
		"FORWARD_STORAGE_URLS": {"http://user:" + planted + "@host:port", "ftp://user:" + planted + "@host"},
		"VMSELECT_URLS":        {"http://user:" + planted + "@host:port", "ftp://user:" + planted + "@host"},
		"FORWARD_HEADERS":      {planted, "X Key: " + planted, "X-Key: ok^^" + planted},
		"FORWARD_HEADER":       {"X-Key: " + planted},
	} {
		for _, value := range values {
			t.Run(variable, func(t *testing.T) {
				valid(t)
				t.Setenv("INGESTGW_"+variable, value)
				for _, args := range [][]string{{"config"}, {"check"}} {
					stdout, stderr, code := output(args...)
					if code == exitOK {
						t.Errorf("%s=%s is taken for valid by ingestgw %v", variable, value, args)
					}
					lookForSecrets(t, variable+"="+value, stdout+stderr)
				}
			})
		}
	}
}

func TestSecretsAreNotLoggedOrServed(t *testing.T) {
	for name, basicAuth := range map[string]bool{"basic": true, "bearer": false} {
		t.Run(name, func(t *testing.T) {
			node := &badNode{headers: http.Header{}}
			server := fakeServer(t, node.ServeHTTP)
			base, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			c := startChild(t, append(plantSecrets(t, base, basicAuth), "LOG_LEVEL=debug", "FORWARD_SETTLE=30s", "FORWARD_RETRY_MIN=10ms",
				"FORWARD_RETRY_MAX=50ms", "FORWARD_LOST_AFTER=5s")...)
			c.token = planted + "unknown"
			if status := c.post("a"); status == http.StatusNoContent {
				t.Error("a wrong token is taken")
			}
			c.token = planted
			for range 3 {
				if status := c.post("a"); status != http.StatusNoContent {
					t.Errorf("answered %d", status)
				}
			}
			eventually(t, 20*time.Second, func() error { // every kind of trouble has been met several times
				node.mu.Lock()
				defer node.mu.Unlock()
				if node.calls < 30 {
					return io.ErrNoProgress
				}
				return nil
			})
			for _, path := range []string{"/metrics", "/", "/-/ready", "/debug/pprof/cmdline", "/api/v1/tenants/1:0", "/debug/pprof/goroutine?debug=2"} {
				resp, err := http.Get(c.admin + path)
				if err != nil {
					t.Fatal(err)
				}
				page, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				lookForSecrets(t, path, string(page))
			}
			c.signal(t, syscall.SIGTERM)
			c.exit(t, 30*time.Second)
			lookForSecrets(t, "the log", c.log.String())
			node.saw(t)
		})
	}
}
