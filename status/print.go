package status

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ingestgw/ingestgw/alarm"
)

// The most rows of a table in a terminal.
const printedRows = 15

// Colours of a terminal.
const (
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	green  = "\x1b[1;32m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

// Print writes st for a terminal: what is wrong and why first, then what to do, then figures. What others have written into it
// cannot move the cursor or change colours.
func Print(w io.Writer, st *Status, colour bool) error {
	p := printer{colour: colour}
	p.verdict(st)
	p.alarms(st.Alarms)
	p.backlog(st.Backlog)
	if st.ReadableSeconds.Known() {
		p.line("The freshest sample that can be read is %s old", lasting(st.ReadableSeconds))
	}
	p.tables(st)
	p.memory(st.Memory)
	_, err := w.Write(p.text.Bytes())
	return err
}

type printer struct {
	text   bytes.Buffer
	colour bool
}

func (p *printer) line(format string, args ...any) {
	p.text.WriteString(harmless(fmt.Sprintf(format, args...)))
	p.text.WriteByte('\n')
}

// harmless takes out what a terminal obeys.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// marked writes a word in colour, if there is one, and the rest of the line.
func (p *printer) marked(colour, word, rest string) {
	if p.colour {
		p.text.WriteString(colour)
	}
	p.text.WriteString(harmless(word))
	if p.colour {
		p.text.WriteString(plain)
	}
	p.line("%s", rest)
}

func (p *printer) verdict(st *Status) {
	colour := map[string]string{stateWell: green, stateTrouble: red}[st.Verdict.State]
	if colour == "" {
		colour = yellow
	}
	p.marked(colour, strings.ToUpper(stateWord(st.Verdict.State)), ": "+st.Verdict.Text)
	if st.Verdict.Why != "" {
		p.line("Why:  %s", st.Verdict.Why)
	}
	if st.Verdict.Next != "" {
		p.line("Next: %s", st.Verdict.Next)
	}
	p.line("%s %s, up for %s, read at %s", st.Process, st.Version, lasting(st.UptimeSeconds), clockTime(st.At))
}

func (p *printer) alarms(all []Alarm) {
	for _, a := range all {
		p.text.WriteByte('\n')
		colour := yellow
		if a.Severity == alarm.Page {
			colour = red
		}
		if a.State != alarm.Firing {
			colour = bold
		}
		p.marked(colour, fmt.Sprintf("%s (%s, %s)", a.Name, a.Severity, a.State), strings.TrimRight(" "+a.Node, " ")+" since "+clockTime(a.Since))
		p.line("  %s", a.Summary)
		if a.State != alarm.Resolved && a.Next != "" {
			p.line("  Next: %s", a.Next)
		}
		for _, e := range a.Evidence {
			p.line("  - %s", e.Text)
		}
	}
}

func (p *printer) backlog(b Backlog) {
	p.text.WriteByte('\n')
	p.marked(bold, "Backlog of both lanes", fmt.Sprintf(": oldest not sent %s; %s, blocks %s, samples about %s; blocks/s in %s, out %s; %s",
		lasting(b.Seconds), size(b.Bytes), count(b.Blocks), count(b.Samples), count(b.ArrivingPerSecond), count(b.SentPerSecond), b.outlook()))
}

func (p *printer) memory(m MemoryFigures) {
	p.text.WriteByte('\n')
	changed := ""
	if m.Differs {
		changed = "; changed live"
	}
	p.marked(bold, "Memory", fmt.Sprintf(": GC %s of the CPU used, GOGC %s, limit %s, %s count against it, %s resident%s",
		percent(m.GCShare), gogcText(m.GOGC), limitText(m.LimitBytes), size(m.CountedBytes), size(m.ResidentBytes), changed))
}

func (p *printer) tables(st *Status) {
	p.table("SERVER\tKIND\tSTATE\tGC\tANSWERS IN\tFAILURES/S\tSAMPLES/S\tWRONG", len(st.Nodes), func(i int) []string {
		n := st.Nodes[i]
		return []string{n.Name, n.Kind, n.State, percent(n.GCShare), lasting(n.AnswerSeconds), count(n.FailuresPerSecond), count(n.SamplesPerSecond), strings.Join(n.Notes, "; ")}
	})
	p.table("STAGE\tPER SECOND\tIN IT\tFAILURES/S\tTAKES\tNOTE", len(st.Stages), func(i int) []string {
		s := st.Stages[i]
		waiting := count(s.Waiting) + " " + s.WaitingUnit
		if s.WaitingUnit == "bytes" {
			waiting = size(s.Waiting)
		}
		return []string{s.Name, count(s.PerSecond) + " " + s.Unit, waiting, count(s.FailuresPerSecond), lasting(s.Seconds), s.Note}
	})
	p.table("PARTITION\tOLDEST\tTREND\tGONE IN\tNOT SENT\tBLOCKS\tIN/S\tOUT/S", len(st.Partitions), func(i int) []string {
		one := st.Partitions[i]
		b := one.Backlog
		return []string{one.Lane + "/" + one.Number, lasting(b.Seconds), b.Trend, b.goneIn(), size(b.Bytes), count(b.Blocks),
			count(b.ArrivingPerSecond), count(b.SentPerSecond)}
	})
	p.table("TENANT\tSAMPLES/S\tBULK/S\tREFUSED/S", len(st.Tenants.Top), func(i int) []string {
		t := st.Tenants.Top[i]
		return []string{t.Tenant, count(t.SamplesPerSecond), count(t.BulkPerSecond), count(t.RefusedPerSecond)}
	})
}

// table writes a head and rows, as many as are of use, if there are any.
func (p *printer) table(head string, n int, row func(int) []string) {
	if n == 0 {
		return
	}
	p.text.WriteByte('\n')
	t := tabwriter.NewWriter(&p.text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, head)
	for i := range min(n, printedRows) {
		cells := row(i)
		for j := range cells {
			cells[j] = harmless(cells[j])
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	_ = t.Flush() // into memory
	if n > printedRows {
		p.line("and %d more", n-printedRows)
	}
}
