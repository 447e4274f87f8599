package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is a log's output.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

func (l *lines) with(part string) (n int) {
	for _, line := range l.all() {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func TestALineThatRepeatsIsSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		log, end := New(Config{}, &out)
		defer end()
		for i := range passing + 37 {
			log.With("node", "a").Warn("poll failed", "err", fmt.Errorf("dial 10.0.0.%d:%d: refused", i, 40000+i), "try", i)
		}
		if n := len(out.all()); n != passing {
			t.Fatalf("%d lines pass, want %d", n, passing)
		}
		time.Sleep(window + time.Second)
		synctest.Wait()
		all := out.all()
		last := all[len(all)-1]
		if len(all) != passing+1 || !strings.Contains(last, `msg="poll failed (repeated 37 times in 10s`) ||
			!strings.Contains(last, "level=WARN") || !strings.Contains(last, "node=a") || !strings.Contains(last, "try=46") {
			t.Errorf("%d lines, the last one is %s", len(all), last)
		}
		log.Warn("poll failed", "err", errors.New("dial 10.0.0.9:1: refused"))
		if len(out.all()) != passing+2 {
			t.Error("the line does not pass in the next window")
		}
	})
}

func TestWhatMustBeToldIsNeverHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		log, end := New(Config{}, &out)
		defer end()
		for range passing + 37 {
			log.InfoContext(Always(t.Context()), "memory settings changed")
		}
		if n := len(out.all()); n != passing+37 {
			t.Errorf("%d lines pass, want all %d", n, passing+37)
		}
	})
}

func TestErrorsOfDifferentKindsNeverHideEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		log, end := New(Config{}, &out)
		defer end()
		for range 10 * passing {
			log.Error("post failed", "err", errors.New("answer 503"))
		}
		log.Error("post failed", "err", errors.New("answer 400"))
		log.Error("post failed", "err", errors.New("dial 10.0.0.1:80: refused"))
		log.Error("post failed", "err", errors.New("dial 10.0.0.1:80: no route"))
		log.Error("post failed")
		log.Warn("post failed", "err", errors.New("answer 503"))
		log.Error("other", "err", errors.New("answer 503"))
		if n := len(out.all()); n != passing+6 {
			t.Errorf("%d lines pass, want %d:\n%s", n, passing+6, strings.Join(out.all(), "\n"))
		}
	})
}

func TestLinesOfManyKindsPassInBoundedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lines
		handler := slog.NewTextHandler(&out, nil)
		s := &sampler{kinds: map[string]*repeats{}}
		log := slog.New(&sampled{Handler: handler, sampler: s})
		defer s.end()
		letters := func(i int) string {
			return string([]byte{byte('a' + i%26), byte('a' + i/26%26), byte('a' + i/26/26%26)})
		}
		for i := range 3 * maxKinds {
			log.Info(letters(i) + strings.Repeat("x", 10000))
		}
		if n := len(out.all()); n != 3*maxKinds {
			t.Errorf("%d lines pass, want all %d", n, 3*maxKinds)
		}
		if len(s.kinds) != maxKinds {
			t.Errorf("%d kinds are kept, want at most %d", len(s.kinds), maxKinds)
		}
		for k := range s.kinds {
			if len(k) > 2*maxKind {
				t.Fatalf("a kind takes %d bytes", len(k))
			}
		}
		time.Sleep(window + time.Second)
		synctest.Wait()
		if len(s.kinds) != 0 || s.timer != nil {
			t.Errorf("%d kinds and timer %v are left after the window", len(s.kinds), s.timer)
		}
	})
}

func TestEndTellsWhatIsHeldBack(t *testing.T) {
	var out lines
	log, end := New(Config{}, &out)
	for range passing + 2 {
		log.Info("line")
	}
	end()
	if out.with("repeated 2 times") != 1 {
		t.Errorf("the end says nothing of what was held back:\n%s", strings.Join(out.all(), "\n"))
	}
	for range 2 * passing {
		log.Info("after the end")
	}
	if n := out.with("after the end"); n != 2*passing {
		t.Errorf("%d lines pass after the end, want all %d", n, 2*passing)
	}
}

func TestManyWritersLoseNoCount(t *testing.T) {
	var out lines
	log, end := New(Config{}, &out)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				log.Info("line")
			}
		})
	}
	all.Wait()
	end()
	if out.with("repeated 790 times") != 1 || len(out.all()) != passing+1 {
		t.Errorf("of 800 lines were written:\n%s", strings.Join(out.all(), "\n"))
	}
}

func TestLevelAndFormat(t *testing.T) {
	var out lines
	log, end := New(Config{Level: slog.LevelWarn, Format: "json"}, &out)
	defer end()
	log.Info("not this")
	log.WithGroup("g").Warn("this", "a", 1)
	var line struct {
		Level, Msg string
		G          struct{ A int }
	}
	if err := json.Unmarshal([]byte(out.all()[0]), &line); err != nil || line.Level != "WARN" || line.Msg != "this" || line.G.A != 1 {
		t.Errorf("logged %q, %v", out.all(), err)
	}
}

func TestFormatIsTextOrJSON(t *testing.T) {
	for format, ok := range map[string]bool{"text": true, "json": true, "": false, "logfmt": false} {
		if err := (Config{Format: format}).Validate(); (err == nil) != ok {
			t.Errorf("format %q: %v", format, err)
		}
	}
}

func TestNumbersThatOnlyTellInstancesApartAreOneKind(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"vminsert-0 is gone", "vminsert-17 is gone", true},
		{"dial tcp 10.0.0.7:8480: refused", "dial tcp 10.0.0.71:8481: refused", true},
		{"offset 4711 is lost", "offset 4712 is lost", true},
		{"http: TLS handshake error from 10.1.2.3:5: EOF", "http: TLS handshake error from 10.1.2.4:54321: EOF", true},
		{"status 400", "status 503", false},
		{"status 400: bad", "status 503: bad", false},
		{"a 1", "b 1", false},
	} {
		var a, b strings.Builder
		writeKind(&a, c.a)
		writeKind(&b, c.b)
		if (a.String() == b.String()) != c.same {
			t.Errorf("%q is %q, %q is %q; the same kind: want %t", c.a, a.String(), c.b, b.String(), c.same)
		}
	}
}
