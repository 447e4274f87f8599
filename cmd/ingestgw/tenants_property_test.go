package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/credentials/credentialstest"
	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/forge"
	"github.com/ingestgw/ingestgw/loadtest/verify"
	"github.com/ingestgw/ingestgw/tenant/token/tokentest"
)

var (
	propertyTenants  = flag.Int("property-tenants", 2000, "how many tenants TestNoSampleIsReadableUnderAnotherTenant has")
	propertyRequests = flag.Int("property-requests", 2500, "how many requests they and those who forge send")
	propertySeed     = flag.Uint64("property-seed", 0, "what makes the requests the same again; 0: others each time")
)

// TestNoSampleIsReadableUnderAnotherTenant lets thousands of tenants, trusted senders and forgers send to the program before a real
// cluster, and reads everything back: each sample that was acknowledged is there, with the labels that it should have, whichever way it
// went, and nothing is anywhere else.
func TestNoSampleIsReadableUnderAnotherTenant(t *testing.T) {
	whole(t)
	for _, way := range []struct{ name, pack string }{{"packed", "true"}, {"unpacked", "false"}} {
		t.Run(way.name, func(t *testing.T) { testTenants(t, "INGESTGW_FORWARD_PACK="+way.pack, way.name == "packed") })
	}
}

func testTenants(t *testing.T, setting string, packs bool) {
	seed := *propertySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("to send the same again: -property-seed=%d", seed)
	const maxLabels = 30 // of a vminsert of this version
	key := tokentest.NewKey(t, "1", "EdDSA")
	world := forge.New(forge.Config{
		Sign:         func(account, project uint32) string { return key.Sign(t, tokentest.For(int(account), int(project))) },
		Certificates: 20,
		Seed:         seed, Tenants: *propertyTenants, MaxLabels: maxLabels, Huge: 2 << 20,
		Start: time.Now().Add(-time.Duration(*propertyRequests) * 110 * time.Millisecond), // a request has about 100 samples, a millisecond each
	})
	cluster := stack.StartCluster(t, stack.ClusterSpec{Storages: 2, Inserts: 2})
	authority := credentialstest.NewAuthority(t, "authority")
	cert, certKey := authority.Issue(t, pkix.Name{CommonName: gatewayName}, gatewayName)
	gateway := stack.Start(t, stack.IngestgwSpec("ingestgw", binary(t), setting,
		"INGESTGW_FORWARD_URLS="+strings.Join(cluster.InsertURLs(), ","),
		"INGESTGW_FORWARD_SETTLE=0s",
		fmt.Sprintf("INGESTGW_FORWARD_MAX_LABELS=%d", maxLabels),
		fmt.Sprintf("INGESTGW_INGEST_MAX_LABELS=%d", maxLabels),
		"INGESTGW_TENANT_MODE=file",
		"INGESTGW_TENANT_FILE="+rosterOf(t, world),
		"INGESTGW_TENANT_JWT_KEYS_FILE="+fileOf(t, key.PEM(t)),
		"INGESTGW_INGEST_TLS_CERT_FILE="+cert, "INGESTGW_INGEST_TLS_KEY_FILE="+certKey, "INGESTGW_INGEST_TLS_CLIENT_CA_FILE="+authority.File(t),
		"INGESTGW_TENANT_FAILURES_PER_MINUTE=0", // all come from one address
		"INGESTGW_INGEST_DISCARDED=false",       // which would be samples that nobody has sent
	))
	senders := &senders{world: world, url: "https://" + gateway.AddrOf("http"), left: *propertyRequests, clients: clients(t, authority, world)}
	senders.sendAll(t)
	book := world.Book()
	t.Logf("taken: %v; %d samples acknowledged", book, book.Acknowledged())
	checkKinds(t, book)
	committed(t, gateway, time.Minute)
	readBack(t, cluster, book)
	page := textOf("http://" + gateway.AddrOf("admin") + "/metrics")
	small, large := counted(page, "ingestgw_forward_packed_samples_total"), counted(page, "ingestgw_forward_unpacked_samples_total")
	t.Logf("%.0f samples went packed, %.0f as they came; %d series went both ways", small, large, book.SeenBothWays())
	if (small > 0) != packs || large == 0 || book.SeenBothWays() == 0 {
		t.Error("not both ways were tried")
	}
}

// readBack waits for what is missing. What is wrong does not become right.
func readBack(t *testing.T, cluster *stack.Cluster, book *forge.Book) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if err := cluster.Flush(t.Context()); err != nil {
			return err
		}
		book.Again()
		report, err := (&verify.Cluster{URL: cluster.Select.URL()}).Check(t.Context(), book)
		if err == nil && report.Foreign+report.Changed > 0 {
			t.Fatal(report)
		}
		if err == nil && !report.OK() {
			err = fmt.Errorf("%v", report)
		}
		return err
	})
}

func rosterOf(t *testing.T, world *forge.World) (path string) {
	t.Helper()
	var b bytes.Buffer
	if err := world.WriteRoster(&b); err != nil {
		t.Fatal(err)
	}
	return fileOf(t, b.Bytes())
}

func fileOf(t *testing.T, text []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkKinds sees to it that all that was to be tried was.
func checkKinds(t *testing.T, book *forge.Book) {
	t.Helper()
	taken := book.Taken()
	for _, kind := range forge.Kinds {
		switch kind {
		case forge.WrongTenant, forge.WrongToken, forge.ForgedURL, forge.Repeated: // need not be taken, or must not
		default:
			if taken[kind] == 0 {
				t.Errorf("no request of kind %q was taken", kind)
			}
		}
	}
}

// gatewayName is what the gateway's certificate says.
const gatewayName = "gateway.example"

// senders send requests over some connections at a time.
type senders struct {
	world   *forge.World
	url     string
	clients map[string]*http.Client // by the name in the certificate

	mu   sync.Mutex
	left int // requests
}

const connections = 16

// clients makes one for each certificate, and one without.
func clients(t *testing.T, authority *credentialstest.Authority, world *forge.World) map[string]*http.Client {
	t.Helper()
	all := map[string]*http.Client{}
	for _, name := range append(world.Certificates(), "") {
		config := &tls.Config{RootCAs: authority.Pool(), ServerName: gatewayName, MinVersion: tls.VersionTLS12}
		if name != "" {
			cert, err := tls.LoadX509KeyPair(authority.Issue(t, pkix.Name{CommonName: name}, name))
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{cert}
		}
		all[name] = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: connections, TLSClientConfig: config}}
		t.Cleanup(all[name].CloseIdleConnections)
	}
	return all
}

func (s *senders) next(t *testing.T) *forge.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 || t.Failed() {
		return nil
	}
	s.left--
	return s.world.Next()
}

// sendAll returns when all requests are answered for good.
func (s *senders) sendAll(t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	for range connections {
		all.Go(func() { // ends with the last request
			for r := s.next(t); r != nil; r = s.next(t) {
				status, answer := sendPatiently(t.Context(), s.clients[r.Certificate], r, s.url)
				if err := s.world.Book().Answered(r, status); err != nil {
					t.Errorf("%v: %s", err, answer)
				}
			}
		})
	}
	all.Wait()
}

// sendPatiently sends a request again while it is told to come again, for a minute.
func sendPatiently(ctx context.Context, client *http.Client, r *forge.Request, url string) (status int, answer string) {
	for began := time.Now(); ; {
		status, answer = send(ctx, client, r, url)
		if status != 0 && status != http.StatusTooManyRequests && status/100 != 5 || time.Since(began) > time.Minute {
			return status, answer
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return status, answer
		}
	}
}

func send(ctx context.Context, client *http.Client, r *forge.Request, url string) (status int, answer string) {
	req, err := r.HTTP(ctx, url)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// counted adds up the series of a metric.
func counted(page, metric string) (sum float64) {
	for _, m := range regexp.MustCompile(`(?m)^`+metric+`(?:\{.*\})? (\S+)$`).FindAllStringSubmatch(page, -1) {
		v, _ := strconv.ParseFloat(m[1], 64)
		sum += v
	}
	return sum
}
