// Package logs writes log lines, and holds back those that repeat.
package logs

import (
	"fmt"
	"io"
	"log/slog"
)

// Config is the settings of logging, read with prefix LOG.
type Config struct {
	Level  slog.Level `default:"info" desc:"Least level that is logged: debug, info, warn or error."`
	Format string     `default:"text" desc:"How log lines are written to standard error: text (key=value) or json."`
}

// Validate says everything that is wrong with the settings.
func (c Config) Validate() error {
	if c.Format != "text" && c.Format != "json" {
		return fmt.Errorf("INGESTGW_LOG_FORMAT=%s: want text or json", c.Format)
	}
	return nil
}

// New returns a logger that writes to w and holds back lines that repeat, and the function that ends the holding back: it
// writes the counts that are due, and lets all later lines through.
func New(cfg Config, w io.Writer) (log *slog.Logger, end func()) {
	opts := &slog.HandlerOptions{Level: cfg.Level}
	var handler slog.Handler = slog.NewTextHandler(w, opts)
	if cfg.Format == "json" {
		handler = slog.NewJSONHandler(w, opts)
	}
	s := &sampler{kinds: make(map[string]*repeats)}
	return slog.New(&sampled{Handler: handler, sampler: s}), s.end
}
