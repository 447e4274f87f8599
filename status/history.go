package status

import (
	"math"
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

// What history keeps, in the order of a point.
const (
	backlogSeconds = iota
	backlogBytes
	backlogBlocks
	samplesIn
	samplesOut
	refusedRequests
	gcShare
	memoryBytes
	drawn // how many
)

// A point is the figures of one moment.
type point [drawn]float64

// pointOf takes from the metrics what is drawn.
func pointOf(s span) point {
	return point{
		backlogSeconds:  s.now.Greatest(gathered.UnsentAge),
		backlogBytes:    s.now.Sum(gathered.UnsentBytes),
		backlogBlocks:   s.now.Sum(gathered.UnsentBlocks),
		samplesIn:       float64(s.rate(gathered.IngestSamples)),
		samplesOut:      float64(s.rate(gathered.ForwardSamples)),
		refusedRequests: float64(refusals(s)),
		gcShare:         s.now.Sum(gathered.MemoryGCShare),
		memoryBytes:     s.now.Sum(gathered.ProcessResident),
	}
}

// A history is the points of the last hours. It is safe for concurrent use. Its memory is taken at the start and does not grow.
type history struct {
	mu     sync.Mutex
	at     []int64 // Unix seconds
	points []point
	next   int // where the next one goes
	full   bool
}

func newHistory(length time.Duration) *history {
	n := max(1, int(length/every))
	return &history{at: make([]int64, n), points: make([]point, n)}
}

// add takes in a point; the oldest makes room for it.
func (h *history) add(at time.Time, p point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[h.next], h.points[h.next] = at.Unix(), p
	if h.next++; h.next == len(h.points) {
		h.next, h.full = 0, true
	}
}

// History is the last hours, as columns of the same length. Of several points that are one here, each figure is the greatest.
type History struct {
	// At is when, in Unix seconds.
	At []int64 `json:"at"`
	// BacklogSeconds is the age of the oldest sample not sent, BacklogBytes and BacklogBlocks what is not sent.
	BacklogSeconds []downstream.Figure `json:"backlog_seconds"`
	BacklogBytes   []downstream.Figure `json:"backlog_bytes"`
	BacklogBlocks  []downstream.Figure `json:"backlog_blocks"`
	// SamplesIn and SamplesOut are per second: accepted from senders, and taken by vminserts (repetitions included).
	SamplesIn  []downstream.Figure `json:"samples_in"`
	SamplesOut []downstream.Figure `json:"samples_out"`
	// Refused is requests of senders per second that were not accepted.
	Refused []downstream.Figure `json:"refused"`
	// GCShare is what garbage collection takes of the CPU that this process uses, 0 to 1.
	GCShare []downstream.Figure `json:"gc_share"`
	// MemoryBytes is the resident memory of this process.
	MemoryBytes []downstream.Figure `json:"memory_bytes"`
}

// columns lists the figures in the order of a point.
func (h *History) columns() [drawn]*[]downstream.Figure {
	return [drawn]*[]downstream.Figure{&h.BacklogSeconds, &h.BacklogBytes, &h.BacklogBlocks, &h.SamplesIn, &h.SamplesOut, &h.Refused, &h.GCShare, &h.MemoryBytes}
}

// show returns at most n points, the oldest first.
func (h *history) show(n int) History {
	h.mu.Lock()
	defer h.mu.Unlock()
	length, first := h.next, 0
	if h.full {
		length, first = len(h.points), h.next
	}
	step := max(1, (length+n-1)/n)
	out := History{At: []int64{}}
	columns := out.columns()
	for _, c := range columns {
		*c = []downstream.Figure{}
	}
	// Groups end with the newest point, so that the oldest one may be smaller.
	for end := length - (length-1)/step*step; end <= length && length > 0; end += step {
		at := func(i int) int { return (first + i) % len(h.points) }
		out.At = append(out.At, h.at[at(end-1)])
		for i, c := range columns {
			most := math.NaN()
			for j := max(0, end-step); j < end; j++ {
				if v := h.points[at(j)][i]; !(v <= most) && !math.IsNaN(v) {
					most = v
				}
			}
			*c = append(*c, downstream.Figure(most))
		}
	}
	return out
}
