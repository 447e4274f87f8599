package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/ingestgw/ingestgw/memory"
)

// maxChange is the most bytes that a change of memory settings may have.
const maxChange = 4 << 10

// Memory is what operators can see and change of GOGC and the memory limit. It is safe for concurrent use.
type Memory interface {
	// View is what holds now.
	View() memory.View
	// Set puts a change in force, and returns what holds then. The error is memory.ErrChange if it never can be, else it may
	// succeed later.
	Set(context.Context, memory.Change) (memory.View, error)
}

// SetMemory gives the API about memory what it is about. Until then it answers 503.
func (s *Server) SetMemory(m Memory) { s.memory.Store(&m) }

// memoryRoutes adds the API about memory.
func (s *Server) memoryRoutes(r *routes) {
	r.HandleFunc("GET /api/v1/memory", s.withMemory(func(w http.ResponseWriter, _ *http.Request, m Memory) {
		s.sayJSON(w, http.StatusOK, m.View())
	}))
	r.HandleFunc("PUT /api/v1/memory", s.withMemory(s.changeMemory))
}

func (s *Server) withMemory(do func(http.ResponseWriter, *http.Request, Memory)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m := s.memory.Load()
		if m == nil {
			s.sayError(w, http.StatusServiceUnavailable, "memory settings cannot be told yet: this process is starting")
			return
		}
		do(w, r, *m)
	}
}

// changeMemory puts in force what the body says, and answers with what holds then. Who asked is logged, also if it was refused.
func (s *Server) changeMemory(w http.ResponseWriter, r *http.Request, m Memory) {
	v, err := setMemory(w, r, m)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		s.sayJSON(w, http.StatusOK, v)
		return
	case errors.As(err, &tooLarge):
		s.sayError(w, http.StatusRequestEntityTooLarge, err.Error())
	case errors.Is(err, memory.ErrChange):
		s.sayError(w, http.StatusBadRequest, err.Error())
	default:
		s.sayError(w, http.StatusServiceUnavailable, err.Error())
	}
	s.log.Warn("memory settings not changed", "who", whoAsks(r), "err", err)
}

func setMemory(w http.ResponseWriter, r *http.Request, m Memory) (memory.View, error) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxChange))
	if err != nil {
		return memory.View{}, fmt.Errorf("read the change of memory settings: %w", err)
	}
	change, err := memory.ParseChange(text)
	if err != nil {
		return memory.View{}, err
	}
	change.By = whoAsks(r)
	return m.Set(r.Context(), change)
}
