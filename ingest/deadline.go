package ingest

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// deadlines are until when the bodies that are being read have to come. When the server stops, all of them have to come sooner: a
// sender that stalls then hears 503 and comes back, where it would find its connection cut.
type deadlines struct {
	mu      sync.Mutex
	reading map[*http.ResponseController]struct{}
	stop    time.Time // the latest for all, once the server stops
}

// begin gives the body of a request until then to come.
func (d *deadlines) begin(control *http.ResponseController, until time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reading == nil {
		d.reading = map[*http.ResponseController]struct{}{}
	}
	d.reading[control] = struct{}{}
	if !d.stop.IsZero() && d.stop.Before(until) {
		until = d.stop
	}
	return control.SetReadDeadline(until)
}

// end is for a body that has come, or comes no more. The deadline stays: see lift.
func (d *deadlines) end(control *http.ResponseController) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.reading, control)
}

// lift takes the deadline away. From then on net/http reads only to notice that the sender has gone; a deadline would look the same
// to it.
func (d *deadlines) lift(control *http.ResponseController) error {
	d.end(control)
	return control.SetReadDeadline(time.Time{})
}

// shorten gives all bodies until then to come, those that are being read and those that still begin.
func (d *deadlines) shorten(until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop = until
	for control := range d.reading {
		_ = control.SetReadDeadline(until) // the connection has ended otherwise
	}
}

// late says why a body has not come in time.
func (d *deadlines) late(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop.IsZero() {
		return err
	}
	return fmt.Errorf("%w: the process stops, and the body did not come in time", buffer.ErrClosed)
}
