package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// The configurations of senders that README.md shows, and the tenant that they send to.
const (
	senders       = "../../../docs/senders"
	readme        = "../../../README.md"
	sendersTenant = "42:0"
)

// shown is a configuration with the addresses of s in place of the ones that it is written with. "{http}" and "{dir}" are those
// of the sender, as in stack.Spec.
func shown(t *testing.T, s *scene, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(senders, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(
		"127.0.0.1:8480", s.gateway.Addr(),
		"127.0.0.1:9090", "{http}",
		"127.0.0.1:9429", "{http}",
		"docs/senders", "{dir}",
		"/var/lib/vmagent", "{dir}/queue",
	).Replace(string(text))
}

func TestSamplesOfTheSendersInReadmeArrive(t *testing.T) {
	whole(t)
	s := started(t)
	say := func(text string) { t.Log(text) }
	vmagent, err := stack.Install(t.Context(), stack.Vmagent, say)
	if err != nil {
		t.Fatal(err)
	}
	stack.Start(t, stack.PrometheusSpec("prometheus", shown(t, s, "prometheus.yml")))
	stack.Start(t, stack.Spec{
		Name:   "vmagent-sh",
		Binary: "/bin/sh",
		Args:   []string{"{dir}/vmagent.sh"},
		Env:    []string{"PATH=" + filepath.Dir(vmagent)},
		Listen: map[string]string{"http": ""},
		Ready:  "http://{http}/health",
		Files:  map[string]string{"vmagent.sh": shown(t, s, "vmagent.sh"), "vmagent.yml": shown(t, s, "vmagent.yml")},
	})
	for _, job := range []string{"prometheus", "vmagent"} {
		awaitUp(t, s, job)
	}
}

// awaitUp returns when the cluster shows that a sender of that job has scraped itself.
func awaitUp(t *testing.T, s *scene, job string) {
	t.Helper()
	var rows []row
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		rows, err = s.query(t.Context(), sendersTenant, `up{job="`+job+`"}`)
		if err == nil && len(rows) == 1 && rows[0].number() == 1 {
			return
		}
	}
	t.Errorf("no sample of job %s within a minute: %v, %v; ingestgw says\n%s", job, rows, err, s.gateway.Log())
}

// Vector cannot be installed from a registry of modules, so its configuration is only held against what ingestgw takes.
func TestEndpointsOfTheSendersInReadmeAreTaken(t *testing.T) {
	whole(t)
	s := started(t)
	for _, name := range []string{"prometheus.yml", "vmagent.sh", "vector.yaml"} {
		url := regexp.MustCompile(`http://\S+/write`).FindString(shown(t, s, name))
		if status := post(t, url); status != http.StatusNoContent {
			t.Errorf("%s sends to %s, which answers %d", name, url, status)
		}
	}
}

// post sends an empty message, in snappy, with the headers that every sender sends, and returns the status.
func post(t *testing.T, url string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("\x00"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestReadmeShowsTheConfigurationsThatAreRun(t *testing.T) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(senders)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		config, err := os.ReadFile(filepath.Join(senders, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\n"+string(config)+"```") {
			t.Errorf("README.md does not show docs/senders/%s as it is", f.Name())
		}
	}
	if len(files) == 0 {
		t.Errorf("no configurations in %s", senders)
	}
}
