package access

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

const many = 500_000

// bigFile is a table of n tenants; those whose number can be divided by changed have another credential than with changed 0.
func bigFile(n, changed int) string {
	var b strings.Builder
	b.WriteString("plans:\n  small: {samples_per_second: 100}\n  large: {samples_per_second: 100000}\ntenants:\n")
	for i := range n {
		plan, secret := "small", tokenOf(i)
		if i%100 == 0 {
			plan = "large"
		}
		if changed > 0 && i%changed == 0 {
			secret += " anew"
		}
		sum := sha256.Sum256([]byte(secret))
		fmt.Fprintf(&b, "  - {\"id\": \"%d:0\", \"plan\": %q, \"credentials\": [{\"bearer_sha256\": %q}]}\n", i, plan, hex.EncodeToString(sum[:]))
	}
	return b.String()
}

func tokenOf(i int) string { return fmt.Sprintf("the secret of tenant %d", i) }

// BenchmarkReload reads a file of 500,000 tenants, and reads it again when 1 % of them have changed.
func BenchmarkReload(b *testing.B) {
	old, changed := bigFile(many, 0), bigFile(many, 100)
	name := filepath.Join(b.TempDir(), "tenants.yaml")
	write := func(text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("first", func(b *testing.B) {
		write(old)
		before := heap()
		var a *Access
		var spent time.Duration
		for b.Loop() {
			began := cpu()
			a = newAccess(b, Config{Mode: ModeFile, File: name})
			spent += cpu() - began
		}
		b.ReportMetric(spent.Seconds()/float64(b.N), "cpu-s/op")
		b.ReportMetric(float64(heap()-before)/many, "B/tenant")
		runtime.KeepAlive(a)
	})
	b.Run("again", func(b *testing.B) {
		write(old)
		a := newAccess(b, Config{Mode: ModeFile, File: name})
		texts := []string{changed, old}
		var spent time.Duration
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			write(texts[i%2])
			b.StartTimer()
			began := cpu()
			if err := a.Reload(); err != nil {
				b.Fatal(err)
			}
			spent += cpu() - began
		}
		b.ReportMetric(spent.Seconds()/float64(b.N), "cpu-s/op")
	})
}

// cpu is what the process has used of all processors. On a busy machine it says more than the time on the wall.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkIdentify(b *testing.B) {
	a := newAccess(b, Config{Mode: ModeFile, File: writeFile(b, bigFile(10_000, 0))})
	r := httptest.NewRequest("POST", "/api/v1/write", nil)
	r.Header.Set("Authorization", "Bearer "+tokenOf(1))
	b.Run("file", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Identify(b.Context(), r, Name{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("path", func(b *testing.B) {
		a := newAccess(b, Config{Mode: ModePath})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Identify(b.Context(), r, Name{Given: true, ID: tenant.ID{Account: 12}}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	for name, from := range map[string]string{
		"number":   "{label: org}",
		"table":    "{label: org, values: table, table: {'12:3': 12:3}}",
		"unlisted": "{label: org, missing: 9:9}",
	} {
		b.Run(name, func(b *testing.B) {
			a := newAccess(b, Config{Mode: ModeFile, File: writeFile(b, "tenants:\n- {\"id\": \"12:3\"}\ncredentials:\n"+
				"- {name: scraper, bearer_sha256: "+sha("s")+", tenants_from: "+from+"}")})
			s, err := a.Identify(b.Context(), request("Authorization", "Bearer s"), Name{})
			if err != nil {
				b.Fatal(err)
			}
			values := [][]byte{[]byte("12:3")}
			if name == "unlisted" {
				values[0] = []byte("77")
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Mapping.Find(b.Context(), values...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
