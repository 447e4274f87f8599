package canary

import (
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
)

const node0 = "10.0.0.0:8480"

func TestAgeIsHalfAPeriodWhenAllIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 2, 2)
		s.start()
		defer s.stop()
		if v := s.after(0); !v.Leads || len(v.Paths) != 3 || v.Paths[0].Age.Known() || v.ReadPath != "" {
			t.Errorf("before anything was read: %+v", v)
		}
		v := s.after(62 * time.Second)
		want := map[string]float64{"buffer": 5, "10.0.0.0:8480": 5, "10.0.0.1:8480": 5}
		if got := ages(v); !maps.Equal(got, want) {
			t.Errorf("ages %v, want %v", got, want)
		}
		for _, p := range v.Paths {
			if p.WriteError != "" || time.Since(p.Sent) != 2*time.Second || time.Since(p.Readable) != 12*time.Second || len(p.At) != 2 ||
				p.At[1].Age != 5 || p.At[1].Vmselect != "10.0.1.1:8481" {
				t.Errorf("path %+v", p)
			}
		}
		for i, sel := range v.Selects {
			if !sel.Answers || sel.Error != "" || sel.Age != 5 {
				t.Errorf("vmselect %+v", sel)
			}
			if asked := s.selects[i].asked; asked != 6 {
				t.Errorf("asked %d times in a minute, want 6", asked)
			}
		}
		got, wantSeries := s.series(), map[string]float64{
			"leads": 1, "age_seconds  buffer": 5, "age_seconds 10.0.0.0:8480 vminsert": 5, "age_seconds 10.0.0.1:8480 vminsert": 5,
			"vmselect_up 10.0.1.0:8481": 1, "vmselect_up 10.0.1.1:8481": 1, "vmselect_age_seconds 10.0.1.0:8481": 5,
			"vmselect_age_seconds 10.0.1.1:8481": 5, "read_failures_total 10.0.1.0:8481": 0, "read_failures_total 10.0.1.1:8481": 0,
		}
		if !maps.Equal(got, wantSeries) {
			t.Errorf("metrics %v", got)
		}
	})
}

func TestAJamOfTheBufferMakesItsAgeGrowAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.start()
		defer s.stop()
		s.after(31 * time.Second)
		s.do(func() { s.jammed = true })
		v := s.after(5 * time.Minute)
		if got := ages(v); got["buffer"] != 295 || got[node0] != 5 || v.ReadPath != "" {
			t.Errorf("after five minutes: %v, %q", got, v.ReadPath)
		}
		s.do(func() { s.jammed = false; s.forward() })
		if got := ages(s.after(10 * time.Second)); got["buffer"] != 5 {
			t.Errorf("after the jam: %v", got)
		}
	})
}

func TestAVminsertThatPassesNothingOnIsToldApart(t *testing.T) {
	for name, spoil := range map[string]func(*fakeNode){
		"frozen":  func(n *fakeNode) { n.frozen = true },
		"keeping": func(n *fakeNode) { n.keeps = true },
		"away":    func(n *fakeNode) { n.status = 503 },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t, 2, 1)
			s.start()
			defer s.stop()
			s.after(31 * time.Second)
			s.do(func() { spoil(s.nodes[1]) })
			v := s.after(3 * time.Minute)
			if got := ages(v); got["buffer"] != 5 || got[node0] != 5 || got["10.0.0.1:8480"] != 175 {
				t.Errorf("%s: %v", name, got)
			}
			failed := v.Paths[2].WriteError
			want := map[string]string{"frozen": "no answer within INGESTGW_CANARY_TIMEOUT=10s", "keeping": "", "away": "answered 503: no"}[name]
			if !strings.HasPrefix(failed, want) || (want == "") != (failed == "") {
				t.Errorf("%s: the write failed with %q", name, failed)
			}
		})
	}
}

func TestNothingPilesUpBeforeAVminsertThatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.cfg.Timeout = 35 * time.Second
		s.nodes[0].frozen, s.selects[0].frozen = true, true
		s.start()
		defer s.stop()
		s.after(10 * time.Minute)
		if n := s.nodes[0]; n.most != 1 || n.posts != 16 { // every 35 s, and then at the next round
			t.Errorf("%d posts, %d at one time", n.posts, n.most)
		}
		if asked := s.selects[0].asked; asked != 15 {
			t.Errorf("the vmselect was asked %d times", asked)
		}
	})
}

func TestAReadPathThatFailsIsNamedAsThat(t *testing.T) {
	for name, spoil := range map[string]func(*fakeSelect){
		"frozen":  func(v *fakeSelect) { v.frozen = true },
		"failing": func(v *fakeSelect) { v.status, v.text = 503, "cannot fetch from vmstorage\n"+strings.Repeat("x", 9999) },
		"garbage": func(v *fakeSelect) { v.text = "<html>log in</html>" },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t, 1, 2)
			s.start()
			defer s.stop()
			s.after(31 * time.Second)

			s.do(func() { spoil(s.selects[0]) })
			v := s.after(time.Minute)
			if v.ReadPath != "" || v.Selects[0].Answers || v.Selects[0].Error == "" || len(v.Selects[0].Error) > 512 ||
				v.Selects[0].Age.Known() || v.Selects[0].FailingSince.IsZero() {
				t.Errorf("%s: with one of two: %q, %+v", name, v.ReadPath, v.Selects[0])
			}
			if got := ages(v); got["buffer"] != 5 || got[node0] != 5 || v.Paths[0].At[0].Age.Known() {
				t.Errorf("%s: with one of two: %v, %+v", name, got, v.Paths[0].At)
			}

			s.do(func() { spoil(s.selects[1]) })
			v = s.after(time.Minute)
			if !strings.HasPrefix(v.ReadPath, "the read path is at fault: none of 2 vmselects answers; 10.0.1.0:8481: ") {
				t.Errorf("%s: %q", name, v.ReadPath)
			}
			if got := ages(v); got["buffer"] != -1 || got[node0] != -1 {
				t.Errorf("%s: ages are known without an answer: %v", name, got)
			}
			if got := s.series(); got["vmselect_up 10.0.1.0:8481"] != 0 || got["read_failures_total 10.0.1.1:8481"] == 0 {
				t.Errorf("%s: %v", name, got)
			}
			if n := strings.Count(s.log.String(), "the read path is at fault"); n != 2 {
				t.Errorf("%s: logged %d times:\n%s", name, n, &s.log)
			}

			s.do(func() { *s.selects[0] = fakeSelect{s: s, ep: s.selects[0].ep} })
			if v = s.after(20 * time.Second); v.ReadPath != "" || v.Paths[0].Age != 5 {
				t.Errorf("%s: afterwards: %q, %v", name, v.ReadPath, ages(v))
			}
		})
	}
}

// A vmselect that cannot reach one of its vmstorages refuses to export and answers queries with what the others have.
func TestAVmselectThatAnswersInPartIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.start()
		defer s.stop()
		s.after(31 * time.Second)
		s.do(func() {
			s.selects[0].status, s.selects[0].text, s.selects[0].partly = 503, "cannot fetch from vmstorage-3", true
		})
		v := s.after(time.Minute)
		if got := ages(v); got["buffer"] != 5 || got[node0] != 5 {
			t.Errorf("ages %v", got)
		}
		if sel := v.Selects[0]; !sel.Answers || sel.Error != "" || sel.Partial != "answered 503: cannot fetch from vmstorage-3" || v.ReadPath != "" {
			t.Errorf("%q, %+v", v.ReadPath, sel)
		}
		s.do(func() { s.selects[0].status, s.selects[0].text = 0, "" })
		if sel := s.after(10 * time.Second).Selects[0]; !sel.Answers || sel.Partial != "" {
			t.Errorf("afterwards %+v", sel)
		}
	})
}

func TestNoAddressOfAVmselectIsTheReadPathsFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 0)
		s.start()
		defer s.stop()
		if v := s.after(time.Minute); !strings.Contains(v.ReadPath, "no such host") || v.Paths[0].Age.Known() {
			t.Errorf("%+v", v)
		}
		if n := strings.Count(s.log.String(), "cannot resolve all of INGESTGW_VMSELECT_URLS"); n != 1 {
			t.Errorf("logged %d times in a minute:\n%s", n, &s.log)
		}
	})
}

func TestABufferThatRefusesIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.refused = buffer.ErrFull
		s.start()
		defer s.stop()
		v := s.after(61 * time.Second)
		if p := v.Paths[0]; p.WriteError != "buffer is full" || !p.Sent.IsZero() || p.Age != 55 {
			t.Errorf("%+v", p)
		}
		if got := s.series()["write_failures_total  buffer"]; got != 7 {
			t.Errorf("%v failures, want 7", got)
		}
		s.do(func() { s.refused = nil })
		if p := s.after(time.Minute).Paths[0]; p.WriteError != "" || p.Age != 5 {
			t.Errorf("afterwards %+v", p)
		}
		said := s.log.String()
		if strings.Count(said, "is not taken") != 1 || strings.Count(said, "is taken again") != 1 || strings.Count(said, `path=buffer node="" err="buffer is full"`) != 1 {
			t.Errorf("logged:\n%s", said)
		}
	})
}

func TestAFollowerDoesNotProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.leads = false
		s.start()
		defer s.stop()
		v := s.after(time.Minute)
		text, err := json.Marshal(v)
		if want := `{"leads":false,"every_seconds":10,"paths":[],"vmselects":[]}`; err != nil || string(text) != want {
			t.Errorf("it shows %s, %v", text, err)
		}
		if s.nodes[0].posts+s.selects[0].asked+len(s.stored) > 0 {
			t.Error("it probes")
		}
		if got := s.series(); !maps.Equal(got, map[string]float64{"leads": 0}) {
			t.Errorf("metrics %v", got)
		}
	})
}

func TestLeadershipIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.start()
		defer s.stop()
		s.after(31 * time.Second)
		s.do(func() { s.leads, s.nodes[0].frozen = false, true })
		s.after(5 * time.Second)
		posts, asked := s.nodes[0].posts, s.selects[0].asked
		if v := s.after(time.Minute); v.Leads || len(v.Paths) > 0 || s.nodes[0].posts != posts || s.selects[0].asked != asked || s.nodes[0].inFlight > 0 {
			t.Errorf("it goes on: %+v", v)
		}
		if got := s.series(); !maps.Equal(got, map[string]float64{"leads": 0}) {
			t.Errorf("metrics %v", got)
		}
		s.do(func() { s.leads, s.nodes[0].frozen = true, false })
		if got := ages(s.after(12 * time.Second)); got["buffer"] != 5 || got[node0] != 5 {
			t.Errorf("when it leads again: %v", got)
		}
	})
}

// A process that starts in the middle of a jam tells how long it lasts, by the samples of the one before.
func TestTheAgeOfAJamOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.start()
		s.after(31 * time.Second)
		s.do(func() { s.jammed = true })
		s.after(9 * time.Minute)
		s.stop()
		s.reg.Unregister(s.canary.metrics)
		s.reg.Unregister(s.canary.metrics.readFailures)
		s.reg.Unregister(s.canary.metrics.writeFailures)
		s.start()
		defer s.stop()
		if got := ages(s.after(61 * time.Second)); got["buffer"] != 596 || got[node0] != 5 {
			t.Errorf("after ten minutes: %v", got)
		}
	})
}

// An age of a few seconds would say that all is well, when nothing is known.
func TestAPathOfWhichNothingCouldBeReadHasNoAgeAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.nodes[0].keeps = true
		s.start()
		defer s.stop()
		if got := ages(s.after(26 * time.Second)); got[node0] != -1 || got["buffer"] != 5 {
			t.Errorf("after 26 s: %v", got)
		}
		if got := ages(s.after(10 * time.Second)); got[node0] != 35 {
			t.Errorf("after 36 s: %v", got)
		}
	})
}

// Its samples carry timestamps that are still to come, so they would be the freshest for an hour.
func TestSamplesOfAProcessWithAFastClockDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.jammed = true
		for ahead := range 3600 {
			s.stored = append(s.stored, sample{
				metric: map[string]string{"__name__": "ingestgw_canary", "group": "g", "path": "buffer"},
				at:     time.Now().Add(time.Duration(ahead)*time.Second + time.Millisecond).UnixMilli(),
			})
		}
		s.start()
		defer s.stop()
		v := s.after(61 * time.Second)
		if p := v.Paths[0]; p.Age != 55 || !p.Readable.IsZero() {
			t.Errorf("%+v", p)
		}
	})
}

func TestNodesThatAreGoneAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 2, 2)
		s.nodes[1].status = 503
		s.selects[1].status = 500
		s.start()
		defer s.stop()
		s.after(31 * time.Second)
		s.do(func() { s.nodes, s.selects = s.nodes[:1], s.selects[:1] })
		v := s.after(15 * time.Second)
		if len(v.Paths) != 2 || len(v.Selects) != 1 || len(v.Paths[0].At) != 1 {
			t.Errorf("%+v", v)
		}
		for name := range s.series() {
			if strings.Contains(name, "10.0.0.1") || strings.Contains(name, "10.0.1.1") {
				t.Errorf("there is still %q", name)
			}
		}
	})
}

// In front of an hour's samples of a hundred vminserts that would be a lot.
func TestOnlyWhatMayBeNewsIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 3, 1)
		s.start()
		defer s.stop()
		s.after(50*time.Minute + 6*time.Second)
		if most := 4 * 2 * 150; s.selects[0].bytes > most {
			t.Errorf("the last answer has %d bytes, want two samples per path, less than %d", s.selects[0].bytes, most)
		}
	})
}

func TestWhatIsOlderThanTheMemoryIsNotLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 1, 1)
		s.start()
		defer s.stop()
		s.after(31 * time.Second)
		s.do(func() { s.jammed = true })
		if got := ages(s.after(2 * time.Hour)); got["buffer"] != 7195 {
			t.Errorf("after two hours: %v", got)
		}
		s.canary.current().mu.Lock()
		if n := len(s.canary.current().rounds); n > memory+1 {
			t.Errorf("%d rounds are remembered", n)
		}
		s.canary.current().mu.Unlock()
		s.do(func() { s.jammed = false; s.forward() })
		if got := ages(s.after(10 * time.Second)); got["buffer"] != 5 {
			t.Errorf("after the jam: %v", got)
		}
	})
}

// A timestamp is what the wall clock says, which may be put back. Ages go by rounds.
func TestAClockThatIsPutBackChangesNoAge(t *testing.T) {
	now := time.Now()
	tm := &term{c: &Canary{cfg: Config{Every: 10 * time.Second}}, since: now.Add(-time.Minute), rounds: map[int64]time.Time{}}
	p := &path{key: key{path: pathBuffer}}
	tm.paths = map[key]*path{p.key: p}
	const hour = int64(time.Hour / time.Millisecond)
	before, after := now.Add(-30*time.Second), now.Add(-20*time.Second)
	tm.rounds[before.UnixMilli()], tm.rounds[after.UnixMilli()-hour] = before, after
	src := &source{newest: map[key]sighting{p.key: {at: before, own: true}}, good: true, read: now}

	from, to := tm.window(src, now)
	if from > after.UnixMilli()-hour || to < before.UnixMilli() {
		t.Errorf("looks from %d to %d, and misses what was written after the clock was put back", from, to)
	}
	src.newest[p.key] = src.newest[p.key].later(tm.newestOf([]int64{before.UnixMilli(), after.UnixMilli() - hour}))
	if age := src.age(p); age != 20 {
		t.Errorf("age %v, want 20", age)
	}
}

func TestErrorsHoldNoSecrets(t *testing.T) {
	base, err := url.Parse("http://vmselect:8481/?authKey=sec%2Bret")
	if err != nil {
		t.Fatal(err)
	}
	got := shown(errors.New("answered 503:\n /export?authKey=sec%2Bret and sec+ret \xff"+strings.Repeat("é", 400)), downstream.Endpoint{Base: base})
	if strings.Contains(got, "ret") || strings.Contains(got, "\n") || len(got) > maxError || !strings.HasPrefix(got, "answered 503: /export?authKey=***") {
		t.Errorf("shows %q", got)
	}
}
