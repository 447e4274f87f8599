package notify

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
)

func TestTheWebhookHearsOfEachChange(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		pending := firing("b", alarm.Page, 1)
		pending.State = alarm.Pending
		s.update()
		s.update(pending)
		for _, step := range []struct {
			all  []alarm.Alarm
			want string
		}{
			{[]alarm.Alarm{firing("a", alarm.Ticket, 1)}, "a/ticket/firing"},
			{[]alarm.Alarm{firing("a", alarm.Ticket, 2), pending}, ""},
			{[]alarm.Alarm{firing("a", alarm.Page, 2)}, "a/page/firing"},
			{[]alarm.Alarm{firing("a", alarm.Page, 2), firing("b", alarm.Page, 1)}, "a/page/firing b/page/firing"},
			{[]alarm.Alarm{resolved(firing("a", alarm.Page, 2)), firing("b", alarm.Page, 1)}, "a/page/resolved b/page/firing"},
			{[]alarm.Alarm{firing("b", alarm.Page, 1)}, ""}, // it was told that a has ended
			{[]alarm.Alarm{resolved(firing("b", alarm.Page, 1))}, "b/page/resolved"},
			{[]alarm.Alarm{firing("b", alarm.Page, 1)}, "b/page/firing"},
			{[]alarm.Alarm{resolved(firing("b", alarm.Page, 1))}, "b/page/resolved"},
			{nil, ""},
		} {
			time.Sleep(time.Second)
			s.update(step.all...)
			if got := s.hook.said(); got != step.want {
				t.Errorf("told %q, want %q", got, step.want)
			}
		}
	})
}

func TestTheWebhookIsToldAgainWhileSomethingFires(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		a := firing("a", alarm.Page, 1)
		s.update(a)
		s.goOn(2*time.Minute+30*time.Second, a)
		s.goOn(10*time.Minute, resolved(a))
		if got := s.hook.said(); got != "a/page/firing | a/page/firing | a/page/firing | a/page/resolved" {
			t.Errorf("told %q", got)
		}
	})
}

func TestTheExampleInTheFormatIsWhatIsSent(t *testing.T) {
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```json\n")
	want, _, _ := strings.Cut(rest, "```")
	run(t, func(c *Config) { c.PageURL = parse(t, "https://ingestgw.example.com/") }, func(t *testing.T, s *scene) {
		other := firing("senders_gone", alarm.Ticket, 1)
		other.Node, other.Evidence, other.Symptoms = "", nil, nil
		other.Summary, other.Next = "Half as many samples arrive as an hour ago.", "Look at the senders."
		s.update(other)
		s.update(firing("vminsert_gogc_too_low", alarm.Page, 0.47), resolved(other))
		told := s.hook.told()
		if len(told) != 2 {
			t.Fatalf("told %d times", len(told))
		}
		var got bytes.Buffer
		if err := json.Indent(&got, told[1].body, "", "  "); err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(got.String()) != strings.TrimSpace(want) {
			t.Errorf("FORMAT.md has\n%s\nbut sent is\n%s", want, got.String())
		}
	})
}
