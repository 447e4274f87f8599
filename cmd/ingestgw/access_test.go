package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/credentials/credentialstest"
	"github.com/ingestgw/ingestgw/tenant/directory/directorytest"
	"github.com/ingestgw/ingestgw/tenant/token/tokentest"
)

// tableFile writes a table of tenants to a file.
func tableFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tenants.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listed is a line of the table: a tenant with a bearer token.
func listed(id, token string) string {
	return fmt.Sprintf("- {\"id\": %q, \"credentials\": [{\"bearer_sha256\": %q}]}\n", id, hashOf(token))
}

// as posts one sample with a bearer token, and returns what it is answered.
func (c *child) as(token string) int {
	other := *c
	other.token = token
	return other.post("a")
}

func (c *child) want(t *testing.T, what, token string, want int) {
	t.Helper()
	if got := c.as(token); got != want {
		t.Errorf("%s: answered %d, want %d", what, got, want)
	}
}

// wantSoon is want for what takes effect within seconds.
func (c *child) wantSoon(t *testing.T, what, token string, want int) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		if got := c.as(token); got != want {
			return fmt.Errorf("%s: answered %d, want %d", what, got, want)
		}
		return nil
	})
}

func TestTokensThatAreNoGoodAreRefused(t *testing.T) {
	key, next, stranger := tokentest.NewKey(t, "1", "RS256"), tokentest.NewKey(t, "2", "ES256"), tokentest.NewKey(t, "1", "RS256")
	keys := tokentest.NewKeySet(t, key)
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "TENANT_MODE=file", "TENANT_FILE="+tableFile(t, "tenants: []\n"),
		"TENANT_JWT_JWKS_URL="+keys.Serve(t), "TENANT_JWT_AUDIENCE=ingestgw", "TENANT_JWT_REFRESH=1s", "TENANT_JWT_LEEWAY=1s")
	claims := tokentest.For(1, 2).With("aud", "ingestgw")
	good := key.Sign(t, claims)
	c.wantSoon(t, "a good token", good, 204)

	past := time.Now().Add(-time.Hour).Unix()
	for what, token := range map[string]string{
		"expired":                       key.Sign(t, claims.With("exp", past)),
		"that never expires":            key.Sign(t, claims.With("exp", nil)),
		"not valid yet":                 key.Sign(t, claims.With("nbf", time.Now().Add(time.Hour).Unix())),
		"for another audience":          key.Sign(t, claims.With("aud", "grafana")),
		"without audience":              key.Sign(t, claims.With("aud", nil)),
		"signed by nobody":              tokentest.Unsigned(t, claims),
		"signed by another":             stranger.Sign(t, claims),
		"signed with our public key":    tokentest.SignSecret(t, "1", "HS256", key.PEM(t), claims),
		"of which a letter was changed": good[:len(good)-10] + "A" + good[len(good)-9:],
		"of which the end was cut off":  good[:len(good)-1],
		"without its signature":         good[:strings.LastIndexByte(good, '.')+1],
		"that is two":                   good + "." + good,
	} {
		c.want(t, "a token "+what, token, 401)
	}
	if status := c.postTo("/insert/7:0/prometheus/api/v1/write", good); status != 403 {
		t.Errorf("a good token for another's tenant: answered %d, want 403", status)
	}

	keys.Set(t, next) // rotated
	c.wantSoon(t, "a token of the new key", next.Sign(t, claims), 204)
	c.wantSoon(t, "a token of the key that has gone", good, 401)

	keys.Break(http.StatusInternalServerError)
	c.want(t, "a known token while the keys cannot be read", next.Sign(t, claims), 204)
	c.wantSoon(t, "a token of a key that may be new while the keys cannot be read", tokentest.NewKey(t, "3", "RS256").Sign(t, claims), 503)
	c.want(t, "an expired token while the keys cannot be read", next.Sign(t, claims.With("exp", past)), 401)
	lookFor(t, c, good)
}

// lookFor fails when the log shows a token, or the part of it that makes it valid.
func lookFor(t *testing.T, c *child, token string) {
	t.Helper()
	if log := c.log.String(); strings.Contains(log, token) || strings.Contains(log, token[strings.LastIndexByte(token, '.')+1:]) {
		t.Error("the log shows a token")
	}
}

func TestTokensCountFromTheStartOrNotAtAll(t *testing.T) {
	key := tokentest.NewKey(t, "1", "EdDSA")
	keys := tokentest.NewKeySet(t, key)
	keys.Break(http.StatusServiceUnavailable)
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "TENANT_MODE=file", "TENANT_FILE="+tableFile(t, "tenants:\n"+listed("5:0", "other")),
		"TENANT_JWT_JWKS_URL="+keys.Serve(t), "TENANT_JWT_REFRESH=1s")
	c.want(t, "a token while no keys are known", key.Sign(t, tokentest.For(1, 2)), 503)
	c.want(t, "a credential of the table meanwhile", "other", 204)
	c.want(t, "what is no token meanwhile", "garbage", 401)
	keys.Break(0)
	c.wantSoon(t, "the token with the keys there", key.Sign(t, tokentest.For(1, 2)), 204)
}

func TestClientCertificatesSayWhoSends(t *testing.T) {
	ours, theirs, strangers := credentialstest.NewAuthority(t, "ours"), credentialstest.NewAuthority(t, "theirs"), credentialstest.NewAuthority(t, "strangers")
	cert, key := ours.Issue(t, pkix.Name{CommonName: "gateway"})
	clientCA := theirs.File(t)
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "TENANT_MODE=file",
		"TENANT_FILE="+tableFile(t, "tenants:\n- {id: \"1:0\", credentials: [{certificate: {subject: \"CN=agent,O=acme\"}}]}\n"+
			"- {id: \"2:0\", credentials: [{certificate: {san: agent.two.example}}]}\n"),
		"INGEST_TLS_CERT_FILE="+cert, "INGEST_TLS_KEY_FILE="+key, "INGEST_TLS_CLIENT_CA_FILE="+clientCA)
	c.ingest = strings.Replace(c.ingest, "http://", "https://", 1)
	agent := pkix.Name{CommonName: "agent", Organization: []string{"acme"}}
	for what, one := range map[string]struct {
		by      *credentialstest.Authority
		subject pkix.Name
		names   []string
		path    string
		want    int // 0: no connection
	}{
		"by its subject":                 {by: theirs, subject: agent, want: 204},
		"by its subject, for its tenant": {by: theirs, subject: agent, path: "/insert/1:0/prometheus/api/v1/write", want: 204},
		"by its subject, for another":    {by: theirs, subject: agent, path: "/insert/2:0/prometheus/api/v1/write", want: 403},
		"by a name":                      {by: theirs, subject: pkix.Name{CommonName: "x"}, names: []string{"agent.two.example"}, want: 204},
		"of nobody we know":              {by: theirs, subject: pkix.Name{CommonName: "agent"}, want: 401},
		"of a stranger's authority":      {by: strangers, subject: agent, want: 0},
		"of our own authority":           {by: ours, subject: agent, want: 0},
		"none at all":                    {want: 401},
	} {
		tlsConfig := &tls.Config{RootCAs: ours.Pool(), MinVersion: tls.VersionTLS12}
		if one.by != nil {
			certFile, keyFile := one.by.Issue(t, one.subject, one.names...)
			shown, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				t.Fatal(err)
			}
			tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &shown, nil }
		}
		if one.path == "" {
			one.path = "/api/v1/write"
		}
		if got := c.postWith(tlsConfig, one.path, ""); got != one.want {
			t.Errorf("a certificate %s: answered %d, want %d", what, got, one.want)
		}
	}
	if got := c.postWith(&tls.Config{RootCAs: theirs.Pool(), MinVersion: tls.VersionTLS12}, "/api/v1/write", ""); got != 0 {
		t.Errorf("a sender that does not trust our certificate: answered %d", got)
	}

	// Both certificates are renewed without a restart.
	newCert, newKey := strangers.Issue(t, pkix.Name{CommonName: "gateway"})
	for from, to := range map[string]string{newCert: cert, newKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 20*time.Second, func() error {
		if got := c.postWith(&tls.Config{RootCAs: strangers.Pool(), MinVersion: tls.VersionTLS12}, "/api/v1/write", ""); got != 401 {
			return fmt.Errorf("answered %d", got)
		}
		return nil
	})
}

// postTo is post to another path.
func (c *child) postTo(path, token string) int { return c.postWith(nil, path, token) }

func (c *child) postWith(tlsConfig *tls.Config, path, token string) int {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: tlsConfig}}
	req, err := http.NewRequest(http.MethodPost, c.ingest+path, bytes.NewReader(request("a")))
	if err != nil {
		return 0
	}
	req.Header = remoteWriteHeader()
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestDirectoryInTroubleKeepsNobodyOutWhoIsKnown(t *testing.T) {
	d := new(directorytest.Directory)
	d.Bearer("known", `{"tenants": ["1:0"]}`)
	d.Bearer("late", `{"tenants": ["2:0"]}`)
	url, cache, data := d.Serve(t), filepath.Join(t.TempDir(), "answers"), t.TempDir()
	start := func() *child {
		return startChild(t, "FORWARD_URLS="+startSink(t).URL, "BUFFER_DIR="+data, "TENANT_MODE=directory", "TENANT_DIRECTORY_URL="+url,
			"TENANT_DIRECTORY_TTL=100ms", "TENANT_DIRECTORY_MISS_TTL=100ms", "TENANT_DIRECTORY_TIMEOUT=500ms", "TENANT_DIRECTORY_CACHE_FILE="+cache)
	}
	c := start()
	c.want(t, "who is known", "known", 204)
	c.want(t, "who is not", "stranger", 401)

	for trouble, begin := range map[string]func(){
		"down":  func() { d.Break(http.StatusBadGateway) },
		"slow":  func() { d.Delay(10 * time.Second) },
		"silly": func() { d.Bearer("known", `{"tenants": "all of them"}`) },
	} {
		begin()
		for range 20 {
			c.want(t, "who is known while the directory is "+trouble, "known", 204)
		}
		if trouble != "silly" {
			c.wantSoon(t, "who is not known while the directory is "+trouble, "late", 503)
		}
		d.Break(0)
		d.Delay(0)
		d.Bearer("known", `{"tenants": ["1:0"]}`)
		c.wantSoon(t, "who is not, with the directory well again", "stranger", 401)
	}

	d.Break(http.StatusServiceUnavailable)
	c.signal(t, syscall.SIGTERM)
	if code := c.exit(t, 30*time.Second); code != exitOK {
		t.Errorf("exit %d", code)
	}
	c = start()
	c.want(t, "who was known before the restart", "known", 204)
	c.want(t, "who was not, while the directory is down", "late", 503)
	d.Break(0)
	c.wantSoon(t, "the same with the directory well again", "late", 204)

	d.Bearer("known", `{"tenants": ["9:0"]}`) // it lies now, or did before
	eventually(t, 20*time.Second, func() error {
		if own, other := c.postTo("/insert/9:0/prometheus/api/v1/write", "known"), c.postTo("/insert/1:0/prometheus/api/v1/write", "known"); own != 204 || other != 403 {
			return fmt.Errorf("the new tenant is answered %d, the old one %d", own, other)
		}
		return nil
	})
	d.Bearer("known", "")
	c.wantSoon(t, "whose credential was taken away", "known", 401)
}

func TestTenantsAreReadAgainAndNoRequestIsDropped(t *testing.T) {
	path := tableFile(t, "tenants:\n"+listed("1:0", "first"))
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "TENANT_MODE=file", "TENANT_FILE="+path, "TENANT_FILE_INTERVAL=0")
	stop, refused := c.keepPosting("first")

	rewrite := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	rewrite("tenants:\n" + listed("1:0", "first") + listed("2:0", "second"))
	c.want(t, "before anybody asks", "second", 401)
	c.signal(t, syscall.SIGHUP)
	c.wantSoon(t, "after SIGHUP", "second", 204)

	rewrite("tenants:\n" + listed("1:0", "first") + listed("3:0", "third"))
	if code, text := postAdmin(c, "/-/reload"); code != 200 {
		t.Errorf("reload: answered %d %q", code, text)
	}
	c.want(t, "after POST /-/reload", "third", 204)
	c.want(t, "who is listed no more", "second", 401)

	rewrite("tenants:\n" + listed("1:0", "first") + "- {id: 4:0:0}\n")
	code, text := postAdmin(c, "/-/reload")
	if code != 500 || !strings.Contains(text, "line 3") && !strings.Contains(text, ":3") {
		t.Errorf("a bad file: answered %d %q, which names no line", code, text)
	}
	c.want(t, "who is in the last good file", "third", 204)
	if metrics := textOf(c.admin + "/metrics"); !strings.Contains(metrics, "_successful 0") {
		t.Error("no metric says that the file is bad")
	}
	stop()
	if n := refused(); n != 0 {
		t.Errorf("%d requests were refused meanwhile", n)
	}
}

// keepPosting posts one sample after the other until stop; refused is then how many were not taken.
func (c *child) keepPosting(token string) (stop func(), refused func() int) {
	done := make(chan struct{})
	var n int
	var posting sync.WaitGroup
	posting.Go(func() { // ends with stop, which waits for it
		for {
			select {
			case <-done:
				return
			default:
			}
			if c.as(token) != http.StatusNoContent {
				n++
			}
		}
	})
	return func() { close(done); posting.Wait() }, func() int { return n }
}

func postAdmin(c *child, path string) (int, string) {
	req, err := http.NewRequest(http.MethodPost, c.admin+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+operatorsToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	_, _ = text.ReadFrom(resp.Body)
	return resp.StatusCode, text.String()
}

func TestInvalidationReachesAllProcesses(t *testing.T) {
	d := new(directorytest.Directory)
	d.Bearer("token", `{"tenants": ["1:0"]}`)
	brokers, url, sink := startFakeKafka(t), d.Serve(t), startSink(t)
	var all []*child
	for range 3 {
		all = append(all, startChild(t, "FORWARD_URLS="+sink.URL, "BUFFER=kafka", "KAFKA_BROKERS="+brokers[0], "KAFKA_CREATE_TOPICS=true",
			"KAFKA_PARTITIONS=3", "TENANT_MODE=directory", "TENANT_DIRECTORY_URL="+url, "TENANT_DIRECTORY_TTL=1h"))
	}
	for _, c := range all {
		c.want(t, "before", "token", 204)
	}
	d.Bearer("token", "")
	for _, c := range all {
		c.want(t, "of which nobody has heard", "token", 204)
	}
	if code, text := postAdmin(all[1], "/api/v1/tenants/1:0/invalidate"); code != 204 {
		t.Fatalf("invalidate: answered %d %q", code, text)
	}
	eventually(t, 10*time.Second, func() error {
		for i, c := range all {
			if got := c.as("token"); got != 401 {
				return fmt.Errorf("process %d answers %d", i, got)
			}
		}
		return nil
	})
}

func TestOneTenantIsToldOf(t *testing.T) {
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "TENANT_MODE=file", "TENANT_FILE="+tableFile(t,
		"plans: {small: {samples_per_second: 10, samples_burst: 10}}\ntenants:\n- {id: \"1:0\", name: acme, plan: small, tags: {org: acme}, credentials: [{name: agent, bearer_sha256: "+
			hashOf("token")+"}]}\n"))
	c.want(t, "a sample", "token", 204)
	code, text := get(c.admin + "/api/v1/tenants/1:0")
	for _, part := range []string{`"tenant": "1:0"`, `"name": "acme"`, `"name": "small"`, `"samples_per_second": 10`, `"org": "acme"`, `"agent"`, `"last_used": "20`, `"samples": 1`} {
		if code != 200 || !strings.Contains(text, part) {
			t.Errorf("answered %d, without %s:\n%s", code, part, text)
		}
	}
	if strings.Contains(text, hashOf("token")) {
		t.Error("the hash of a credential is shown")
	}
	if code, _ := get(c.admin + "/api/v1/tenants/2:0"); code != 404 {
		t.Errorf("an unknown tenant: answered %d", code)
	}
}

func hashOf(token string) string {
	hash := sha256.Sum256([]byte(token))
	return hex.EncodeToString(hash[:])
}

func TestATenantOfTheDirectoryIsToldOfOnceItHasSent(t *testing.T) {
	d := new(directorytest.Directory)
	d.Bearer("token", `{"tenants": ["1:0"], "plan": {"name": "gold", "samples_per_second": 10}, "tags": {"org": "acme"}, "drop": ["up"]}`)
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "TENANT_MODE=directory", "TENANT_DIRECTORY_URL="+d.Serve(t))
	if code, _ := get(c.admin + "/api/v1/tenants/1:0"); code != 404 {
		t.Errorf("before: answered %d", code)
	}
	c.want(t, "a sample", "token", 204)
	code, text := get(c.admin + "/api/v1/tenants/1:0")
	for _, part := range []string{`"listed": false`, `"name": "gold"`, `"samples_per_second": 10`, `"org": "acme"`, `"drop": [`} {
		if code != 200 || !strings.Contains(text, part) {
			t.Errorf("answered %d, without %s:\n%s", code, part, text)
		}
	}
	if strings.Contains(text, "active_series") {
		t.Errorf("series are told that nobody counts:\n%s", text)
	}
}
