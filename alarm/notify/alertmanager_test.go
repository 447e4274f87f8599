package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/alarm"
)

func TestAnAlertSaysWhatIsWrongAndWhyAndWhatToDo(t *testing.T) {
	run(t, func(c *Config) {
		c.AlertmanagerURLs[0].Path = "/prefix/"
		c.PageURL = parse(t, "https://gw.example.com/")
	}, func(t *testing.T, s *scene) {
		s.update(firing("vminsert_gogc_too_low", alarm.Page, 0.47))
		told := s.am.told()
		if len(told) != 1 || told[0].path != "/prefix/api/v2/alerts" {
			t.Fatalf("told %+v", told)
		}
		var got bytes.Buffer
		if err := json.Indent(&got, told[0].body, "", "  "); err != nil {
			t.Fatal(err)
		}
		const want = `[
  {
    "labels": {
      "alertname": "vminsert_gogc_too_low",
      "cluster": "main",
      "node": "vminsert-0:8480",
      "severity": "page"
    },
    "annotations": {
      "description": "GC takes much\nGOGC is 10",
      "next_step": "Start it with GOGC=100.",
      "page": "https://gw.example.com/",
      "process": "gw-0",
      "since": "2000-01-01T00:00:00Z",
      "summary": "vminsert-0:8480 collects garbage instead of working: its GOGC is too low",
      "symptoms": "backlog_growing, senders_refused"
    },
    "startsAt": "2000-01-01T00:00:00Z",
    "endsAt": "2000-01-01T00:03:00Z",
    "generatorURL": "https://gw.example.com/"
  }
]`
		if got.String() != want {
			t.Errorf("told %s", got.String())
		}
	})
}

// TestTenProcessesSendTheSameLabels is what makes one notification of ten processes.
func TestTenProcessesSendTheSameLabels(t *testing.T) {
	var first []byte
	for i := range 10 {
		cfg := config(t, "http://am:9093")
		n, err := New(cfg, fmt.Sprintf("gw-%d", i), nil, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		one, all := firing("vminsert_gogc_too_low", alarm.Page, 0.4+float64(i)/100), firing("senders_gone", alarm.Ticket, float64(i))
		one.Since, all.Node = one.Since.Add(time.Duration(i)*time.Second), ""
		n.Update([]alarm.Alarm{one, all})
		var labels [][]byte
		for _, a := range n.targets[0].poster.body(n.latest.Load(), time.Now()).([]alert) {
			text, err := json.Marshal(a.Labels)
			if err != nil {
				t.Fatal(err)
			}
			labels = append(labels, text)
		}
		got := bytes.Join(labels, []byte("\n"))
		if i == 0 {
			first = got
		}
		if !bytes.Equal(got, first) || len(labels) != 2 {
			t.Errorf("process %d has %s, the first one %s", i, got, first)
		}
	}
}

func TestAnAlertIsToldAtOnceAndAgainUntilItEnds(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		a, began := firing("a", alarm.Page, 1), time.Now()
		s.update()
		s.update(a)
		s.goOn(2*time.Minute+30*time.Second, a)
		s.goOn(10*time.Minute, resolved(a))
		var at []time.Duration
		for _, h := range s.am.told() {
			at = append(at, h.at.Sub(began))
			var got []alert
			if err := json.Unmarshal(h.body, &got); err != nil || len(got) != 1 || got[0].EndsAt.Sub(h.at) != 3*time.Minute {
				t.Errorf("told %s, %v", h.body, err)
			}
		}
		if !slices.Equal(at, []time.Duration{0, time.Minute, 2 * time.Minute}) {
			t.Errorf("told after %v", at)
		}
	})
}

// A cause is often seen a moment before what makes it a page.
func TestATicketThatSoonBecomesAPageIsToldOnceAsAPage(t *testing.T) {
	run(t, func(c *Config) { c.TicketAfter = 45 * time.Second }, func(t *testing.T, s *scene) {
		a := firing("a", alarm.Ticket, 1)
		a.Since = time.Now()
		s.goOn(30*time.Second, a)
		if n := len(s.am.told()); n != 0 {
			t.Errorf("a young ticket is told %d times", n)
		}
		s.update()
		a.Severity = alarm.Page
		s.update(a)
		b := firing("b", alarm.Ticket, 1)
		b.Since = time.Now()
		s.goOn(time.Minute, a, b)
		var severities []string
		for _, h := range s.am.told() {
			var got []alert
			if err := json.Unmarshal(h.body, &got); err != nil {
				t.Fatal(err)
			}
			for _, one := range got {
				severities = append(severities, one.Labels["alertname"]+" "+one.Labels["severity"])
			}
		}
		if slices.Contains(severities, "a ticket") || !slices.Contains(severities, "a page") || !slices.Contains(severities, "b ticket") {
			t.Errorf("told %q", severities)
		}
	})
}

// Who has not heard of it need not hear that it is over.
func TestATicketThatNobodyWasToldOfDoesNotResolve(t *testing.T) {
	run(t, func(c *Config) { c.TicketAfter = 45 * time.Second }, func(t *testing.T, s *scene) {
		a := firing("a", alarm.Ticket, 1)
		a.Since = time.Now()
		s.goOn(20*time.Second, a)
		s.goOn(10*time.Minute, resolved(a))
		if n := len(s.hook.told()); n != 0 {
			t.Errorf("told %d times", n)
		}
	})
}

func TestOnlyAlarmsThatFireAreAlerts(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		pending := firing("pending", alarm.Page, 1)
		pending.State = alarm.Pending
		s.update(pending, resolved(firing("over", alarm.Page, 1)))
		if got := s.am.said(); got != "" {
			t.Errorf("told %q", got)
		}
		s.update(pending, resolved(firing("over", alarm.Page, 1)), firing("a", alarm.Ticket, 1))
		if got := s.am.said(); got != "a/ticket" {
			t.Errorf("told %q", got)
		}
	})
}

func TestAnAlertThatJoinsOthersIsToldAtOnce(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		a, b := firing("a", alarm.Ticket, 1), firing("b", alarm.Page, 1)
		s.update(a)
		s.goOn(20*time.Second, a)
		s.update(a, b)
		s.goOn(40*time.Second, a, b)
		if got := s.am.said(); got != "a/ticket | a/ticket b/page" {
			t.Errorf("told %q", got)
		}
	})
}

// TestAnAlertWhoseSeverityChangesIsAnotherOne looks at the time at which the one before ends too: nobody may put that off.
func TestAnAlertWhoseSeverityChangesIsAnotherOne(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		s.update(firing("a", alarm.Ticket, 1))
		s.goOn(30*time.Second, firing("a", alarm.Ticket, 1))
		s.goOn(2*time.Minute, firing("a", alarm.Page, 1))
		if got := s.am.said(); got != "a/ticket | a/page | a/page" {
			t.Errorf("told %q", got)
		}
	})
}

func TestFiguresThatChangeWaitForTheNextRepetition(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		for i := range 11 {
			s.update(firing("a", alarm.Page, float64(i)))
			time.Sleep(5 * time.Second)
		}
		if got := s.am.said(); got != "a/page" {
			t.Errorf("told %q", got)
		}
	})
}

func TestWhatNoUpdateConfirmsIsToldNoMore(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		s.update(firing("a", alarm.Page, 1))
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(s.am.told()); n != 4 { // at once and after 1, 2 and 3 minutes
			t.Errorf("told %d times within an hour", n)
		}
	})
}

func TestAnAlertLastsForFourUpdates(t *testing.T) {
	run(t, func(c *Config) { c.Resend = time.Second }, func(t *testing.T, s *scene) {
		for range 3 {
			s.update(firing("a", alarm.Page, 1))
			time.Sleep(10 * time.Second)
		}
		told := s.am.told()
		last := told[len(told)-1]
		var got []alert
		if err := json.Unmarshal(last.body, &got); err != nil || got[0].EndsAt.Sub(last.at) != 40*time.Second {
			t.Errorf("it lasts for %s, %v", got[0].EndsAt.Sub(last.at), err)
		}
	})
}

// TestAnAlertNeverBeginsLaterThanNow since Alertmanager refuses one that ends before it begins.
func TestAnAlertNeverBeginsLaterThanNow(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		a := firing("a", alarm.Page, 1)
		a.Since = time.Now().Add(time.Hour)
		s.update(a)
		var got []alert
		if err := json.Unmarshal(s.am.told()[0].body, &got); err != nil || !got[0].StartsAt.Equal(time.Now()) {
			t.Errorf("begins at %s, %v", got[0].StartsAt, err)
		}
	})
}

func TestUpdateKeepsNothingOfWhatItIsGiven(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		all := []alarm.Alarm{firing("a", alarm.Page, 1)}
		s.update(all...)
		s.am.told()
		all[0].Name, all[0].Evidence[0].Text, all[0].Symptoms[0] = "changed", "changed", "changed"
		time.Sleep(time.Minute)
		synctest.Wait()
		if told := s.am.told(); len(told) != 1 || bytes.Contains(told[0].body, []byte("changed")) {
			t.Errorf("told %+v", told)
		}
	})
}
