package logs

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// window is the time over which repetitions are counted.
	window = 10 * time.Second
	// passing is how many lines of one kind pass in a window.
	passing = 10
	// maxKinds bounds the memory: lines of further kinds pass uncounted until the window ends.
	maxKinds = 1000
	// maxKind bounds the part of a line that tells kinds apart, in bytes.
	maxKind = 300
)

// A sampled handler passes the first lines of a kind in a window, and at the window's end one that says how often it came
// again. Lines are of one kind when level, message and the texts of their errors are the same but for addresses and large
// numbers. So an error never hides behind another one.
type sampled struct {
	slog.Handler
	sampler *sampler
}

// alwaysKey is in the context of lines that are never held back.
type alwaysKey struct{}

// Always makes a context for lines that must not be held back however many there are, such as who has changed what. Who can cause them
// can fill the disk: they are for those who may.
func Always(ctx context.Context) context.Context { return context.WithValue(ctx, alwaysKey{}, true) }

// Handle passes r on or counts it.
func (h *sampled) Handle(ctx context.Context, r slog.Record) error {
	if ctx.Value(alwaysKey{}) == nil && h.sampler.holdBack(h.Handler, r) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps counting in the same place.
func (h *sampled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sampled{Handler: h.Handler.WithAttrs(attrs), sampler: h.sampler}
}

// WithGroup keeps counting in the same place.
func (h *sampled) WithGroup(name string) slog.Handler {
	return &sampled{Handler: h.Handler.WithGroup(name), sampler: h.sampler}
}

// A sampler counts lines. Windows begin with the first line after the one before has ended, so that a process that logs nothing
// has no timer.
type sampler struct {
	mu    sync.Mutex
	kinds map[string]*repeats
	timer *time.Timer // ends the window; nil outside of windows
	ended bool
}

type repeats struct {
	seen    int
	handler slog.Handler // of the last one held back
	last    slog.Record
}

func (s *sampler) holdBack(handler slog.Handler, r slog.Record) bool {
	k := kind(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(window, s.closeWindow)
	}
	n := s.kinds[k]
	if n == nil {
		if len(s.kinds) >= maxKinds {
			return false
		}
		n = &repeats{}
		s.kinds[k] = n
	}
	n.seen++
	if n.seen <= passing {
		return false
	}
	n.handler, n.last = handler, r.Clone()
	return true
}

// closeWindow says what was held back.
func (s *sampler) closeWindow() {
	s.mu.Lock()
	kinds := s.kinds
	s.kinds, s.timer = make(map[string]*repeats), nil
	s.mu.Unlock()
	for _, n := range kinds {
		if n.seen > passing {
			n.tell()
		}
	}
}

// tell writes the last line once more, with the count.
func (n *repeats) tell() {
	text := fmt.Sprintf("%s (repeated %d times in %s, the last one is shown)", n.last.Message, n.seen-passing, window)
	r := slog.NewRecord(n.last.Time, n.last.Level, text, n.last.PC)
	n.last.Attrs(func(a slog.Attr) bool {
		r.AddAttrs(a)
		return true
	})
	_ = n.handler.Handle(context.Background(), r) // as slog.Logger does, whose output has nowhere else to go
}

// end closes the window for good. A window that ends at the same time may still be writing.
func (s *sampler) end() {
	s.mu.Lock()
	s.ended = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.closeWindow()
}

// kind is what lines have in common that are one line repeating.
func kind(r slog.Record) string {
	var b strings.Builder
	b.WriteString(r.Level.String())
	b.WriteByte(' ')
	writeKind(&b, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			b.WriteByte(' ')
			writeKind(&b, err.Error())
		}
		return true
	})
	return b.String()
}

// writeKind writes text with # in place of numbers that differ from line to line: those with more than three digits, and those
// that are a part of a name or an address, as in vminsert-0 and 10.0.0.7:8480. Smaller ones stay, since 400 and 503 are
// different matters.
func writeKind(b *strings.Builder, text string) {
	text = text[:min(len(text), maxKind)]
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && isDigit(text[end]) {
			end++
		}
		switch {
		case end == i:
			b.WriteByte(text[i])
			end++
		case end-i > 3 || i > 0 && joins(text[i-1]) || end+1 < len(text) && joins(text[end]) && text[end+1] != ' ':
			b.WriteByte('#')
		default:
			b.WriteString(text[i:end])
		}
		i = end
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// joins says whether c makes a number beside it a part of something larger.
func joins(c byte) bool {
	return c == '.' || c == ':' || c == '-' || c == '_' || c == '/' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}
