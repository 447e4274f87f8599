package status

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/downstream"
)

//go:embed assets page.html
var files embed.FS

// sections are the parts of page.html that events replace.
var sections = []string{"verdict", "now", "alarms", "backlog", "stages", "nodes", "lanes", "partitions", "tenants", "memory"}

const (
	// rows is how many rows of a table the page shows; the API has all.
	rows = 100
	// historyRows is how many rows the table of history has.
	historyRows = 13
)

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"lasting":   lasting,
	"size":      size,
	"count":     count,
	"percent":   percent,
	"clock":     clockTime,
	"raw":       raw,
	"asset":     asset,
	"gogc":      gogcText,
	"limit":     limitText,
	"share":     func(a, b downstream.Figure) downstream.Figure { return a.Per(b) },
	"stateWord": stateWord,
	"plain":     func(s string) string { return strings.ReplaceAll(s, "_", " ") },
}).ParseFS(files, "page.html"))

// A pageView is what page.html shows.
type pageView struct {
	Status
	// Waiting is what waits, in short. Late is the trend of what makes samples late: what only waits in bulk is no alarming colour.
	Waiting, Late string
	// Announce is the verdict without figures, for those who hear the page.
	Announce string
	// Firing are alarms that are or may come to be, Over those that have resolved.
	Firing, Over []alarmView
	// MoreNodes and MorePartitions are how many rows are left out.
	MoreNodes, MorePartitions int
	History                   []historyRow
	// HasToken says whether there is a token of operators, without which browsers can change nothing.
	HasToken bool
}

// An alarmView is an alarm as the page shows it.
type alarmView struct {
	Alarm
	// Ago is how long it has been in its state, roughly, so that it does not change with every event.
	Ago string
	// Told says that the verdict has its summary and next step already.
	Told bool
}

// A historyRow is one row of the table of history.
type historyRow struct {
	At                                                 time.Time
	Seconds, Bytes, Blocks, In, Out, Refused, GC, Held downstream.Figure
}

// pageOf arranges a status for the page.
func pageOf(st Status) *pageView {
	v := &pageView{Status: st}
	v.Announce, v.Waiting, v.Late = announce(&v.Status), v.waiting(), mainOf(&v.Status).Trend
	for _, a := range v.Alarms {
		shown := alarmView{Alarm: a, Ago: roughly(st.At.Sub(a.Since))}
		if a.State == alarm.Resolved {
			v.Over = append(v.Over, shown)
			continue
		}
		shown.Told = len(v.Firing) == 0 && a.Summary == st.Verdict.Why && a.Next == st.Verdict.Next
		v.Firing = append(v.Firing, shown)
	}
	v.MoreNodes = max(0, len(v.Nodes)-rows)
	v.Nodes = v.Nodes[:len(v.Nodes)-v.MoreNodes]
	v.MorePartitions = max(0, len(v.Partitions)-rows)
	v.Partitions = v.Partitions[:len(v.Partitions)-v.MorePartitions]
	return v
}

// announce says what is new for somebody who hears it: it must not change with every figure.
func announce(st *Status) string {
	said := stateWord(st.Verdict.State)
	for _, a := range st.Alarms {
		if a.State == alarm.Firing {
			said += ". " + strings.ReplaceAll(a.Name, "_", " ")
			if a.Node != "" {
				said += " at " + a.Node
			}
		}
	}
	return said + ". Backlog: " + mainOf(st).Trend + "."
}

// historyTable is the newest row first.
func historyTable(h History) []historyRow {
	var table []historyRow
	for i := len(h.At) - 1; i >= 0; i-- {
		table = append(table, historyRow{time.Unix(h.At[i], 0), h.BacklogSeconds[i], h.BacklogBytes[i], h.BacklogBlocks[i], h.SamplesIn[i],
			h.SamplesOut[i], h.Refused[i], h.GCShare[i], h.MemoryBytes[i]})
	}
	return table
}

func (s *Server) pageRoutes(r *routes) {
	r.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		v := pageOf(s.look())
		v.HasToken = s.guard.token.Configured()
		v.History = historyTable(s.watcher.history.show(historyRows))
		var b bytes.Buffer
		if err := page.Execute(&b, v); err != nil {
			s.log.Error("cannot write the page", "err", err)
			say(w, http.StatusInternalServerError, "the page cannot be written; /metrics and /api/v1/status may say more\n")
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(b.Bytes())
	})
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		panic(err) // it is embedded
	}
	served := http.StripPrefix("/assets/", http.FileServerFS(assets))
	r.HandleFunc("GET /assets/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400") // their address changes when they do
		served.ServeHTTP(w, r)
	})
}

// renderSection writes one part of the page.
func renderSection(name string, v *pageView) (string, error) {
	var b strings.Builder
	err := page.ExecuteTemplate(&b, name, v)
	return b.String(), err
}

// asset is the address of an embedded file, which is another one when the file is.
func asset(name string) (string, error) {
	content, err := files.ReadFile("assets/" + name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return "/assets/" + name + "?v=" + hex.EncodeToString(sum[:6]), nil
}

// raw is a number as /metrics has it, for programs that read the page.
func raw(n downstream.Figure) string {
	if !n.Known() {
		return ""
	}
	return strconv.FormatFloat(float64(n), 'g', -1, 64)
}

func gogcText(n downstream.Figure) string {
	switch {
	case !n.Known():
		return nothing
	case n < 0:
		return "off"
	}
	return strconv.Itoa(int(n))
}

func limitText(n downstream.Figure) string {
	if n == 0 {
		return "none"
	}
	return size(n)
}

// stateWord says the state of a verdict.
func stateWord(state string) string {
	switch state {
	case stateWell:
		return "Well"
	case stateLook:
		return "Look at it"
	case stateTrouble:
		return "Trouble"
	}
	return "Not known yet"
}
