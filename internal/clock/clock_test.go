package clock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleepEndsWithItsTimeOrItsContext(t *testing.T) {
	for name, c := range map[string]struct {
		sleeps, lives time.Duration
		took          time.Duration
		long          bool
	}{
		"the time passes":                      {sleeps: time.Second, lives: time.Minute, took: time.Second, long: true},
		"the context ends":                     {sleeps: time.Minute, lives: time.Second, took: time.Second},
		"no time":                              {lives: time.Second, long: true},
		"less than no time":                    {sleeps: -time.Second, lives: time.Second, long: true},
		"the context has ended":                {sleeps: time.Second},
		"no time and a context that has ended": {},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // of two channels that are ready, select takes any
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), c.lives)
					defer cancel()
					began := time.Now()
					long := Sleep(ctx, c.sleeps)
					if took := time.Since(began); long != c.long || took != c.took {
						t.Errorf("Sleep: %v after %v, want %v after %v", long, took, c.long, c.took)
					}
				})
			}
		})
	}
}
