package access

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

func TestDifferentCredentialsThatAreRefusedAreCounted(t *testing.T) {
	file := writeFile(t, acme)
	synctest.Test(t, func(t *testing.T) {
		a := newAccess(t, Config{Mode: ModeFile, File: file, FailuresPerMinute: 5})
		send := func(address, token string) {
			_, _ = a.Identify(t.Context(), from(address, request(bearerOf(token)...)), Name{})
		}
		for i := range 100 {
			send("10.0.0.1:1", "agent's token")                          // right
			send("10.0.0.2:1", "old")                                    // one sender with a wrong one, looked at or not
			send(fmt.Sprintf("10.0.1.%d:1", i), fmt.Sprintf("t%d", i%7)) // and seven
		}
		if n := a.refused.count(time.Now()); n != 8 {
			t.Errorf("%d are counted, want 8", n)
		}
		time.Sleep(90 * time.Second)
		send("10.0.0.2:1", "old")
		if n := a.refused.count(time.Now()); n != 8 {
			t.Errorf("%d are counted after a minute and a half, want 8", n)
		}
		time.Sleep(61 * time.Second)
		if n := a.refused.count(time.Now()); n != 1 {
			t.Errorf("%d are counted when a minute has passed since, want 1", n)
		}
		time.Sleep(time.Hour)
		if n := a.refused.count(time.Now()); n != 0 {
			t.Errorf("%d are counted an hour later", n)
		}
		for i := range 3 * maxRefused {
			a.refused.add(&digest{byte(i), byte(i >> 8), byte(i >> 16)}, time.Now())
		}
		if n := a.refused.count(time.Now()); n > maxRefused {
			t.Errorf("%d are kept", n)
		}
		if _, err := a.Identify(t.Context(), from("10.0.0.1:1", request(bearerOf("agent's token")...)), Name{}); err != nil {
			t.Errorf("a right one: %v, %v", err, tenant.ErrUnauthorized)
		}
	})
}
