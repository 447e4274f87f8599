package status

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
)

// say answers with a text.
func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text)
}

// sayJSON answers with v as JSON.
func (s *Server) sayJSON(w http.ResponseWriter, code int, v any) { //nolint:unparam // every answer names its status
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.log.Error("cannot write an answer as JSON", "err", err)
		writeError(w, http.StatusInternalServerError, "internal")
		return
	}
	writeJSON(w, code, text)
}

// sayError answers with what is wrong, as JSON.
func (s *Server) sayError(w http.ResponseWriter, code int, text string) { writeError(w, code, text) }

// Wrong is what every answer of the API is that is not 2xx.
type Wrong struct {
	Error string `json:"error"`
}

func writeError(w http.ResponseWriter, code int, text string) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	_ = e.Encode(Wrong{text}) // a text can always be written
	writeJSON(w, code, bytes.TrimRight(b.Bytes(), "\n"))
}

func writeJSON(w http.ResponseWriter, code int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n'))
}
