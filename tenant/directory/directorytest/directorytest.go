// Package directorytest is a directory of tenants that tests can change, slow down and break.
//
// It knows what ../PROTOCOL.md says of questions, and nothing of the package that asks them.
package directorytest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/clock"
)

// A Directory answers questions. The zero Directory knows nobody. It is safe for concurrent use.
type Directory struct {
	mu      sync.Mutex
	answers map[question]string
	token   string
	status  int
	delay   time.Duration
	asked   int
	most    int
	now     int
}

type question struct {
	Kind, SHA256, User, Subject, Label, Value string
}

// Serve starts a server for d, which ends with the test, and returns its URL.
func (d *Directory) Serve(t testing.TB) string {
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	return server.URL
}

// Bearer says what is answered for a bearer token; an empty answer is that it is unknown.
func (d *Directory) Bearer(token, answer string) {
	d.set(question{Kind: "bearer", SHA256: hash(token)}, answer)
}

// Basic is Bearer for a user and a password.
func (d *Directory) Basic(user, password, answer string) {
	d.set(question{Kind: "basic", User: user, SHA256: hash(user + ":" + password)}, answer)
}

// Certificate is Bearer for the subject of a certificate, such as "CN=scraper,O=Acme".
func (d *Directory) Certificate(subject, answer string) {
	d.set(question{Kind: "certificate", Subject: subject}, answer)
}

// Label is Bearer for a value of a label.
func (d *Directory) Label(label, value, answer string) {
	d.set(question{Kind: "label", Label: label, Value: value}, answer)
}

// Require lets d refuse, with 401, whoever asks without this bearer token.
func (d *Directory) Require(token string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.token = token
}

// Break makes d answer every question with a status; 0 makes it well again.
func (d *Directory) Break(status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = status
}

// Delay makes d wait for so long before every answer.
func (d *Directory) Delay(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// Asked returns how many questions there were, and how many at one time.
func (d *Directory) Asked() (questions, atOnce int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked, d.most
}

// ServeHTTP answers one question.
func (d *Directory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q question
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "want a question", http.StatusBadRequest)
		return
	}
	d.begin()
	defer d.end()
	delay, status, answer := d.look(q, r.Header.Get("Authorization"))
	if !clock.Sleep(r.Context(), delay) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer) // whoever has asked may be gone
}

func (d *Directory) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	d.now++
	d.most = max(d.most, d.now)
}

func (d *Directory) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now--
}

func (d *Directory) look(q question, authorization string) (delay time.Duration, status int, answer string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch answer, known := d.answers[q]; {
	case d.status != 0:
		return d.delay, d.status, "broken"
	case d.token != "" && authorization != "Bearer "+d.token:
		return d.delay, http.StatusUnauthorized, "who are you?"
	case !known:
		return d.delay, http.StatusNotFound, `{"unknown":true}`
	default:
		return d.delay, http.StatusOK, answer
	}
}

func (d *Directory) set(q question, answer string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if answer == "" {
		delete(d.answers, q)
		return
	}
	if d.answers == nil {
		d.answers = map[question]string{}
	}
	d.answers[q] = answer
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
