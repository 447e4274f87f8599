package alarm

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// CauseUnknown is the alarm for symptoms that no cause explains.
const CauseUnknown = "cause_unknown"

const (
	// unknownAfter is how long a symptom may go without a cause. It is longer than causes take to be told. However little patience there is, it
	// is leastUnknown at least, since the rates of a backlog are over a minute, and what was just mended takes its time.
	unknownAfter = 40 * time.Second
	leastUnknown = 20 * time.Second
	unknownUntil = time.Minute
	// gap is for how long a finding that is not told yet may be missing, as figures of servers come and go.
	gap = 12 * time.Second
)

// An Engine turns readings into alarms. All that it remembers is from the readings it was given, and time is what they say: it is a
// pure function of their sequence. It belongs to one goroutine.
//
// One incident makes one alarm: what follows from another finding (Rule.Covers) is no alarm of its own, symptoms are told with the
// cause that explains them (Rule.Explains), and what most servers of a kind have is told once.
type Engine struct {
	causes, symptoms []Rule
	patience         float64

	states  map[Key]*state    // of causes and of CauseUnknown
	signs   map[string]*state // of symptoms
	several map[string]bool   // rules whose alarm is about most of a kind, until it is over
}

// state is what is remembered of something that is or was wrong.
type state struct {
	rule     *Rule
	finding  Finding
	severity Severity  // of the alarm: it goes up, and not down before it is over
	first    time.Time // seen without a long gap since then; of a symptom, and without anything that is told to explain it
	began    time.Time // of a symptom: seen without a long gap since then
	last     time.Time // seen last
	fired    bool
	ended    time.Time // when it was resolved; zero while it is not
	symptoms []*state  // what it explains now
}

// NewEngine returns an Engine with all rules. Pending and resolve times are multiplied by patience.
func NewEngine(patience float64) *Engine {
	return newEngine(causes(), symptoms(), patience)
}

func newEngine(causes, symptoms []Rule, patience float64) *Engine {
	return &Engine{causes: causes, symptoms: symptoms, patience: patience,
		states: map[Key]*state{}, signs: map[string]*state{}, several: map[string]bool{}}
}

func (e *Engine) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) * e.patience) }

func (e *Engine) unknownAfter() time.Duration { return max(leastUnknown, e.scaled(unknownAfter)) }

// Step takes what is read now and returns all alarms: pending, firing, and those that have resolved in the last ShowResolved. Firing ones come
// first, of these pages.
func (e *Engine) Step(r *Readings) []Alarm {
	e.forget(r.At)
	e.seeSymptoms(r)
	e.seeCauses(r)
	e.explain(r)
	e.age(r.At)
	return e.list()
}

// seeSymptoms notes which symptoms there are.
func (e *Engine) seeSymptoms(r *Readings) {
	for i := range e.symptoms {
		rule := &e.symptoms[i]
		for _, f := range rule.Find(r) {
			s := e.signs[rule.Name]
			if s == nil {
				s = &state{rule: rule, first: r.At, began: r.At}
				e.signs[rule.Name] = s
			}
			s.finding, s.last, s.severity = f, r.At, rule.severityOf(f)
		}
	}
}

func (r *Rule) severityOf(f Finding) Severity { return cmp.Or(f.Severity, r.Severity) }

// A sight is a finding and the rule that found it.
type sight struct {
	rule *Rule
	Finding
}

// seeCauses notes which causes there are, without what follows from others.
func (e *Engine) seeCauses(r *Readings) {
	var all []sight
	for i := range e.causes {
		rule := &e.causes[i]
		for _, f := range e.collapse(r, rule, rule.Find(r)) {
			all = append(all, sight{rule, f})
		}
	}
	for _, s := range all {
		if !e.isCovered(s, all, r.At) {
			e.see(s, r.At)
		}
	}
}

// collapse makes one finding of those about most servers of a kind.
func (e *Engine) collapse(r *Readings, rule *Rule, found []Finding) []Finding {
	if len(found) == 0 || rule.kind() == "" {
		return found
	}
	all := r.count(rule.kind())
	for i := range found {
		if found[i].all = len(found) == all; found[i].all && rule.All != "" {
			found[i].Severity = rule.All
		}
	}
	if !e.several[rule.Name] && (len(found) < 2 || 2*len(found) <= all) {
		return found
	}
	e.several[rule.Name] = true
	if len(found) == 1 { // one is left of most: the alarm goes on until that is well too
		found[0].Node = ""
		return found
	}
	return []Finding{merge(rule.kind(), found, all)}
}

// isCovered says whether s follows from something else that is seen now, or that is firing.
func (e *Engine) isCovered(s sight, all []sight, now time.Time) bool {
	for _, other := range all {
		if other.rule.isBehind(other.Node, s) {
			return true
		}
	}
	for key, st := range e.states {
		if st.rule != nil && st.active(now, e) && st.rule.isBehind(key.Node, s) {
			return true
		}
	}
	return false
}

// isBehind says whether a finding of r about node is the reason for s, or makes s, as a last resort, needless.
func (r *Rule) isBehind(node string, s sight) bool {
	if r == s.rule {
		return false
	}
	needless := s.rule.Last && !r.Last && slices.ContainsFunc(s.rule.Explains, func(sign string) bool { return slices.Contains(r.Explains, sign) })
	return needless || r.covers(node, s.rule, s.Node)
}

// active says whether it is told, or was seen so shortly ago that it may be.
func (s *state) active(now time.Time, e *Engine) bool {
	return s.ended.IsZero() && (s.fired || now.Sub(s.last) <= e.scaled(gap))
}

// reaches says whether a cause may be the reason of a symptom by the time of both: one that was over when the symptom began is not.
func (s *state) reaches(sign *state, now time.Time, e *Engine) bool {
	return s.active(now, e) && (now.Sub(s.last) <= e.scaled(gap) || !sign.began.After(s.last))
}

func (e *Engine) see(s sight, now time.Time) {
	key := Key{s.rule.Name, s.Node}
	st := e.states[key]
	if st == nil || !st.ended.IsZero() {
		st = &state{rule: s.rule, first: e.firstOf(s, now)}
		e.states[key] = st
	}
	st.finding, st.last = s.Finding, now
	st.raise(s.rule.severityOf(s.Finding))
}

// firstOf is when something new was first seen: an alarm about most servers goes on where those about single ones were.
func (e *Engine) firstOf(s sight, now time.Time) time.Time {
	first := now
	if s.Node != "" || s.rule.kind() == "" {
		return first
	}
	for key, st := range e.states {
		if key.Name == s.rule.Name && st.active(now, e) && st.first.Before(first) {
			first = st.first
		}
	}
	return first
}

func (s *state) raise(severity Severity) {
	if s.severity != Page {
		s.severity = severity
	}
}

// forget drops what is pending and was not seen for too long, and symptoms that are over.
func (e *Engine) forget(now time.Time) {
	maps.DeleteFunc(e.states, func(_ Key, s *state) bool {
		return !s.fired && now.Sub(s.last) > e.scaled(gap) || !s.ended.IsZero() && now.Sub(s.ended) > ShowResolved
	})
	maps.DeleteFunc(e.signs, func(_ string, s *state) bool { return now.Sub(s.last) > e.scaled(gap) })
}

// explain gives symptoms to the causes that explain them; those that none does are an alarm of their own.
func (e *Engine) explain(r *Readings) {
	for _, s := range e.states {
		s.symptoms = nil
	}
	var left []*state
	for _, name := range slices.Sorted(maps.Keys(e.signs)) {
		if sign := e.signs[name]; !e.explained(sign, r.At) {
			left = append(left, sign)
		}
	}
	e.unexplained(r, left)
}

// explained finds the causes of a symptom: those that are more than a last resort, if there are any. A cause that is only pending explains
// it for a while, so that one that comes and goes hides nothing.
func (e *Engine) explained(sign *state, now time.Time) bool {
	for _, last := range []bool{false, true} {
		told, found := false, false
		for _, s := range e.states {
			if s.rule != nil && s.rule.Last == last && s.reaches(sign, now, e) && slices.Contains(s.rule.Explains, sign.rule.Name) {
				found, told = true, told || s.fired
				e.attach(s, sign, now)
			}
		}
		if told {
			sign.first = now
		}
		if found {
			return told || now.Sub(sign.first) < 2*e.unknownAfter()
		}
	}
	return false
}

// attach tells a symptom with a cause, which is as severe as the symptom once that has been seen for long enough.
func (e *Engine) attach(cause, sign *state, now time.Time) {
	cause.symptoms = append(cause.symptoms, sign)
	if sign.last.Equal(now) && now.Sub(sign.began) >= e.scaled(sign.rule.After) {
		cause.raise(sign.severity)
	}
}

// unexplained makes an alarm of symptoms without a cause.
func (e *Engine) unexplained(r *Readings, left []*state) {
	key := Key{Name: CauseUnknown}
	s := e.states[key]
	for _, sign := range left {
		if !sign.last.Equal(r.At) || r.At.Sub(sign.first) < e.unknownAfter() && (s == nil || !s.ended.IsZero()) {
			continue
		}
		if s == nil || !s.ended.IsZero() {
			s = &state{first: sign.first}
			e.states[key] = s
		}
		s.last, s.fired = r.At, true
		s.raise(sign.severity)
		s.symptoms = append(s.symptoms, sign)
	}
	if s != nil && s.last.Equal(r.At) {
		s.finding = r.nothingFound(s.symptoms)
	}
}

// age fires what has been seen for long enough and resolves what has not.
func (e *Engine) age(now time.Time) {
	for _, s := range e.states {
		after, until := time.Duration(0), unknownUntil
		if s.rule != nil {
			after, until = s.rule.After, s.rule.Until
			if s.finding.all && s.rule.AllAfter > 0 {
				after = s.rule.AllAfter
			}
		}
		switch {
		case !s.ended.IsZero():
		case !s.fired:
			s.fired = s.last.Equal(now) && now.Sub(s.first) >= e.scaled(after)
		case s.last.Before(now) && now.Sub(s.last) >= e.scaled(until), e.replaced(s):
			s.ended = now
		}
	}
	for name := range e.several {
		if s := e.states[Key{Name: name}]; s == nil || !s.ended.IsZero() {
			delete(e.several, name)
		}
	}
}

// replaced says whether an alarm about one server has become one about most of them.
func (e *Engine) replaced(s *state) bool {
	if s.rule == nil || s.finding.Node == "" || !e.several[s.rule.Name] {
		return false
	}
	whole := e.states[Key{Name: s.rule.Name}]
	return whole != nil && whole.fired && whole.ended.IsZero()
}

// list is all alarms.
func (e *Engine) list() []Alarm {
	all := make([]Alarm, 0, len(e.states))
	for key, s := range e.states {
		all = append(all, s.alarm(key))
	}
	slices.SortFunc(all, func(a, b Alarm) int {
		return cmp.Or(cmp.Compare(urgency(&a), urgency(&b)), a.Since.Compare(b.Since), strings.Compare(a.Name, b.Name), strings.Compare(a.Node, b.Node))
	})
	return all
}

// urgency sorts alarms: firing ones first, of these pages.
func urgency(a *Alarm) int {
	rank := slices.Index([]State{Firing, Pending, Resolved}, a.State) * 2
	if a.Severity != Page {
		rank++
	}
	return rank
}

// server is the other name of the alarm's server, empty if it has none.
func (s *state) server(key Key) string {
	if key.Node == "" {
		return ""
	}
	return s.finding.Server
}

func (s *state) alarm(key Key) Alarm {
	a := Alarm{Name: key.Name, Node: key.Node, Server: cmp.Or(s.server(key), key.Node), Severity: s.severity, State: Pending, Since: s.first, Summary: s.finding.Summary, Next: s.finding.Next,
		Evidence: slices.Clone(s.finding.Evidence), Symptoms: []string{}}
	switch {
	case !s.ended.IsZero():
		a.State, a.Since = Resolved, s.last
	case s.fired:
		a.State = Firing
	}
	for _, sign := range s.symptoms {
		a.Symptoms = append(a.Symptoms, sign.rule.Name)
		a.Evidence = append(a.Evidence, sign.finding.Evidence...)
	}
	if a.Evidence == nil {
		a.Evidence = []Evidence{}
	}
	return a
}
