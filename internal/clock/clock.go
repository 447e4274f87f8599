// Package clock waits until some time has passed, and no longer than a context lets it.
package clock

import (
	"context"
	"time"
)

// Sleep waits for d and says whether it did. It returns false as soon as ctx ends, and always when ctx has ended by then. With a d
// that is not positive it does not wait.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
