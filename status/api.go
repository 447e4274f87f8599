package status

import (
	_ "embed"
	"fmt"
	"net/http"
	"strconv"
)

//go:embed openapi.yaml
var openapi []byte

const (
	// usualPoints is how many points of history are told when nobody says how many, mostPoints how many at most.
	usualPoints = 720
	mostPoints  = 20000
)

// Alarms is what GET /api/v1/alarms answers.
type Alarms struct {
	Alarms []Alarm `json:"alarms"`
}

// Nodes is what GET /api/v1/nodes answers.
type Nodes struct {
	Nodes []Node `json:"nodes"`
}

// apiRoutes adds what tells the same as the page, as JSON.
func (s *Server) apiRoutes(r *routes) {
	r.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { s.sayJSON(w, http.StatusOK, s.look()) })
	r.HandleFunc("GET /api/v1/alarms", func(w http.ResponseWriter, _ *http.Request) { s.sayJSON(w, http.StatusOK, Alarms{s.listAlarms()}) })
	r.HandleFunc("GET /api/v1/nodes", func(w http.ResponseWriter, _ *http.Request) { s.sayJSON(w, http.StatusOK, Nodes{s.look().Nodes}) })
	r.HandleFunc("GET /api/v1/history", s.answerHistory)
	r.HandleFunc("GET /api/v1/events", s.answerEvents)
	r.HandleFunc("GET /api/v1/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openapi)
	})
}

func (s *Server) answerHistory(w http.ResponseWriter, r *http.Request) {
	n := usualPoints
	if given := r.URL.Query().Get("points"); given != "" {
		var err error
		if n, err = strconv.Atoi(given); err != nil || n < 1 || n > mostPoints {
			s.sayError(w, http.StatusBadRequest, fmt.Sprintf("points=%.20s: want a number from 1 to %d", given, mostPoints))
			return
		}
	}
	s.sayJSON(w, http.StatusOK, s.watcher.history.show(n))
}
