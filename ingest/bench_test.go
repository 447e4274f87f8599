package ingest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/buffer"
)

// bin is a Store that takes everything at once and keeps nothing.
type bin struct{ buffer.Store }

func (bin) MaxBlock() int { return 64 << 20 }

func (bin) Append(_ context.Context, _ buffer.Lane, b *buffer.Block) error {
	b.Release()
	return nil
}

// BenchmarkRequest is a whole request over loopback, into a buffer that costs nothing. The sender writes bytes that were made before, so
// that next to all of the time is the receiver's and the kernel's.
func BenchmarkRequest(b *testing.B) {
	for _, samples := range []int{1, 100, 2000} {
		b.Run(fmt.Sprintf("samples=%d", samples), func(b *testing.B) {
			cfg := defaults()
			cfg.ConnMaxAge = 0
			g := start(b, cfg, 256<<20, bin{})
			body := snappy.Encode(nil, message(samples, "job", "node", "instance", "10.20.30.40:9100", "cluster", "eu-west-1a", "env", "production",
				"team", "observability", "pod", "exporter-7d9f8b6c5-x2x7z", "namespace", "monitoring", "container", "exporter", "mode", "user",
				"device", "nvme0n1p1"))
			request := fmt.Appendf(nil, "POST /api/v1/write HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/x-protobuf\r\n"+
				"Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				conn, err := net.Dial("tcp", g.Addr().String())
				if err != nil {
					b.Error(err)
					return
				}
				defer conn.Close()
				answer := bufio.NewReader(conn)
				for pb.Next() {
					if err := exchange(conn, answer, request); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
		})
	}
}

// exchange sends a request, and reads an answer without body, which has to be 204.
func exchange(conn io.Writer, answer *bufio.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	for first := true; ; first = false {
		line, err := answer.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && string(line) != "HTTP/1.1 204 No Content\r\n":
			return fmt.Errorf("answered %q", line)
		case len(line) == 2:
			return nil
		}
	}
}
