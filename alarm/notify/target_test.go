package notify

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
)

// both are the targets of a scene.
func (s *scene) both() map[string]*far { return map[string]*far{"am:9093": &s.am, "hook:80": &s.hook} }

func (s *scene) failing(t *testing.T, target string) float64 {
	t.Helper()
	return s.metric(t, "ingestgw_alarm_notify_failing", map[string]string{"target": target})
}

func (s *scene) notifications(t *testing.T, target, result string) float64 {
	t.Helper()
	return s.metric(t, "ingestgw_alarm_notifications_total", map[string]string{"target": target, "result": result})
}

func TestARequestThatDidNotArriveIsSentAgain(t *testing.T) {
	for _, name := range []string{"am:9093", "hook:80"} {
		run(t, nil, func(t *testing.T, s *scene) {
			f := s.both()[name]
			f.set(0, notArrived)
			s.update(firing("a", alarm.Page, 1))
			if s.failing(t, name) != 1 {
				t.Errorf("%s: the metrics do not tell that it fails", name)
			}
			f.set(0, noFault)
			s.goOn(5*time.Second, firing("a", alarm.Page, 1))
			if got := f.told(); len(got) != 1 || !strings.HasPrefix(got[0].names(), "a/page") {
				t.Errorf("%s was told %d times", name, len(got))
			}
			if s.notifications(t, name, "failed") != 1 || s.notifications(t, name, "ok") != 1 || s.failing(t, name) != 0 {
				t.Errorf("%s: the metrics do not tell one failure and then a success", name)
			}
		})
	}
}

// TestARequestWhoseAnswerIsLostComesAgainAndSaysTheSame so that the other side, which took it, is told nothing new.
func TestARequestWhoseAnswerIsLostComesAgainAndSaysTheSame(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		s.am.set(0, answerLost)
		s.hook.set(0, answerLost)
		s.update(firing("a", alarm.Page, 1))
		s.am.set(0, noFault)
		s.hook.set(0, noFault)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		am, hook := s.am.told(), s.hook.told()
		if len(am) != 2 || am[0].names() != "a/page" || am[1].names() != "a/page" {
			t.Errorf("the Alertmanager has heard %d requests", len(am))
		}
		if len(hook) != 2 || string(hook[0].body) != string(hook[1].body) {
			t.Errorf("the webhook has heard %d requests", len(hook))
		}
	})
}

func TestTheNewestStateIsToldAndNothingQueuesUp(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		s.am.set(0, notArrived)
		s.hook.set(0, hangs)
		for range 100 {
			s.goOn(5*time.Second, firing("a", alarm.Page, 1))
			s.goOn(5*time.Second, firing("b", alarm.Ticket, 1), resolved(firing("a", alarm.Page, 1)))
		}
		s.update(firing("c", alarm.Ticket, 1))
		s.am.set(0, noFault)
		s.hook.set(0, noFault)
		s.goOn(40*time.Second, firing("c", alarm.Ticket, 1))
		if am, hook := s.am.said(), s.hook.said(); am != "c/ticket" || hook != "c/ticket/firing" {
			t.Errorf("told %q and %q", am, hook)
		}
	})
}

func TestThePauseBetweenTriesGrowsAndIsBounded(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		s.am.set(0, notArrived)
		s.update(firing("a", alarm.Page, 1))
		s.goOn(time.Minute, firing("a", alarm.Page, 1))
		s.goOn(time.Hour, firing("a", alarm.Page, 1), firing("b", alarm.Page, 1)) // news does not shorten it
		for i := 1; i < len(s.am.tries); i++ {
			pause, most := s.am.tries[i].Sub(s.am.tries[i-1]), min(time.Second<<min(i-1, 5), mostPause)
			if pause < most/2 || pause > most {
				t.Errorf("%s before try %d, want %s to %s", pause, i+1, most/2, most)
			}
		}
	})
}

func TestARefusalIsNotRepeatedBeforeSomethingChanges(t *testing.T) {
	for status, refused := range map[int]bool{
		400: true, 401: true, 403: true, 404: true, 422: true, 301: true, 308: true,
		408: false, 429: false, 500: false, 502: false, 503: false,
	} {
		run(t, nil, func(t *testing.T, s *scene) {
			a, b := firing("a", alarm.Page, 1), firing("b", alarm.Page, 1)
			s.hook.set(status, noFault)
			s.update(a)
			s.goOn(55*time.Second, a)
			if again := s.hook.tried() > 1; again == refused {
				t.Fatalf("status %d: %d tries", status, s.hook.tried())
			}
			if !refused {
				return
			}
			s.update(a, b)
			s.goOn(65*time.Second, a, b)
			if n := s.hook.tried(); n != 3 { // the first, the one for the change, the one after RESEND
				t.Errorf("status %d: %d tries", status, n)
			}
			if s.notifications(t, "hook:80", "refused") != 3 || s.failing(t, "hook:80") != 1 || s.failing(t, "am:9093") != 0 {
				t.Errorf("status %d: the metrics do not tell three refusals of one target", status)
			}
		})
	}
}

func TestATargetThatHangsHoldsUpNobody(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		s.hook.set(0, hangs)
		began := time.Now()
		s.update(firing("a", alarm.Page, 1))
		s.update(firing("a", alarm.Page, 1), firing("b", alarm.Page, 1))
		if got := s.am.said(); got != "a/page | a/page b/page" || !time.Now().Equal(began) {
			t.Errorf("told %q after %s", got, time.Since(began))
		}
		s.goOn(15*time.Second, firing("a", alarm.Page, 1))
		if s.notifications(t, "hook:80", "failed") < 1 || s.log.count("no answer within INGESTGW_ALARM_TIMEOUT=10s") != 1 {
			t.Errorf("logged %s", s.log.String())
		}
	})
}

func TestTheLogSaysOnceThatATargetFailsAndOnceThatItIsWell(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		a := firing("a", alarm.Page, 1)
		for range 2 {
			s.am.set(0, notArrived)
			s.goOn(10*time.Minute, a)
			s.am.set(401, noFault) // another kind of failure asks for another remedy
			s.goOn(10*time.Minute, a)
			s.am.set(503, noFault)
			s.goOn(10*time.Minute, a)
			s.am.set(0, noFault)
			s.goOn(10*time.Minute, a)
		}
		if bad, refused, well := s.log.count("cannot tell alarms"), s.log.count("refused by whom"), s.log.count("can be told again"); bad != 2 || refused != 2 || well != 2 {
			t.Errorf("logged %s", s.log.String())
		}
		if n := s.log.count("target=am:9093"); n != 6 {
			t.Errorf("%d of the lines name the target", n)
		}
	})
}

func TestATargetThatFailedIsTriedUntilItIsWellAlthoughNothingFires(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		s.am.set(0, notArrived)
		s.hook.set(404, noFault)
		s.update(firing("a", alarm.Page, 1))
		s.goOn(30 * time.Minute)
		s.hook.told()
		s.am.set(0, noFault)
		s.hook.set(0, noFault)
		s.goOn(30 * time.Minute)
		am, hook := s.am.told(), s.hook.told()
		if len(am) != 1 || string(am[0].body) != "[]" || len(hook) != 1 || !strings.HasSuffix(string(hook[0].body), `"alarms":[]}`) {
			t.Errorf("the Alertmanager has heard %v, the webhook %v", am, hook)
		}
		if s.failing(t, "am:9093") != 0 || s.failing(t, "hook:80") != 0 {
			t.Error("the metrics say that a target fails that is well")
		}
	})
}

func TestTheEndTellsWhatIsNotToldYet(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		s.hook.set(0, hangs)
		s.update(firing("a", alarm.Page, 1))
		s.am.told()
		s.hook.set(0, noFault) // for the next try; the one under way hangs on
		s.end()
		if am, hook := s.am.said(), s.hook.said(); am != "" || hook != "a/page/firing" {
			t.Errorf("told %q and %q", am, hook)
		}
	})
}

func TestTheEndTakesASecondAtMost(t *testing.T) {
	run(t, nil, func(t *testing.T, s *scene) {
		s.am.set(0, hangs)
		s.hook.set(0, hangs)
		s.update(firing("a", alarm.Page, 1))
		began := time.Now()
		s.end()
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %s", took)
		}
		if s.log.count("no answer before the process ended") != 2 || s.log.count("INGESTGW_ALARM_TIMEOUT") != 0 {
			t.Errorf("logged %s", s.log.String())
		}
	})
}
