// Package roster writes tenants and their credentials as the file that INGESTGW_TENANT_FILE names.
package roster

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
)

// A Tenant is one line of the file. Only ID has to be there.
type Tenant struct {
	ID   string // "<account>:<project>"
	Plan string // a name in Limits
	Tags map[string]string
	Drop []string // series selectors
	// Credentials may each write for it.
	Credentials []Credential
}

// A Credential is one of these.
type Credential struct {
	Token          string // bearer
	User, Password string
	Subject        string // of a client's certificate
	Name           string // in a client's certificate
}

// Bearer is the credentials of who has tokens.
func Bearer(tokens ...string) []Credential {
	all := make([]Credential, len(tokens))
	for i, token := range tokens {
		all[i].Token = token
	}
	return all
}

func (c Credential) object() map[string]any {
	switch {
	case c.Token != "":
		return map[string]any{"bearer_sha256": hash(c.Token)}
	case c.User != "":
		return map[string]any{"basic": map[string]any{"user": c.User, "password_sha256": hash(c.Password)}}
	case c.Subject != "":
		return map[string]any{"certificate": map[string]any{"subject": c.Subject}}
	}
	return map[string]any{"certificate": map[string]any{"san": c.Name}}
}

// Limits are a plan's, as the file has them, such as {"samples_per_second": 100}.
type Limits map[string]float64

// A Trusted sender may write for several tenants. It names them in its data, or in the path.
type Trusted struct {
	Name, Token string
	// Tenants are which; none: all.
	Tenants []string
	// Labels are one, or two: account and project. None: it names one tenant in the path.
	Labels []string
	// Table says which tenant a value is; nil: values are numbers.
	Table map[string]string
	// Missing is the tenant of series without the labels; empty: they are refused.
	Missing string
}

// Write writes the file: each tenant as one line of JSON.
func Write(w io.Writer, plans map[string]Limits, tenants iter.Seq[Tenant], trusted ...Trusted) error {
	out := &lines{w: bufio.NewWriterSize(w, 1<<20)}
	out.print("plans: ", plans, "\n")
	out.print("tenants:\n")
	for t := range tenants {
		out.print("- ", t.object(), "\n")
	}
	if len(trusted) > 0 {
		out.print("credentials:\n")
	}
	for _, t := range trusted {
		out.print("- ", t.object(), "\n")
	}
	return out.flush()
}

func (t Tenant) object() map[string]any {
	o := map[string]any{"id": t.ID}
	if t.Plan != "" {
		o["plan"] = t.Plan
	}
	if len(t.Tags) > 0 {
		o["tags"] = t.Tags
	}
	if len(t.Drop) > 0 {
		o["drop"] = t.Drop
	}
	if len(t.Credentials) > 0 {
		all := make([]any, len(t.Credentials))
		for i, c := range t.Credentials {
			all[i] = c.object()
		}
		o["credentials"] = all
	}
	return o
}

func (t Trusted) object() map[string]any {
	o := map[string]any{"name": t.Name, "bearer_sha256": hash(t.Token)}
	if len(t.Tenants) > 0 {
		o["tenants"] = t.Tenants
	}
	if len(t.Labels) > 0 {
		o["tenants_from"] = t.from()
	}
	return o
}

func (t Trusted) from() map[string]any {
	from := map[string]any{"labels": t.Labels, "missing": "refuse"}
	if len(t.Labels) == 1 {
		from = map[string]any{"label": t.Labels[0], "missing": "refuse"}
	}
	if t.Table != nil {
		from["values"], from["table"] = "table", t.Table
	}
	if t.Missing != "" {
		from["missing"] = t.Missing
	}
	return from
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// lines remembers the first error.
type lines struct {
	w   *bufio.Writer
	err error
}

// print writes texts as they are, and anything else as JSON, which is YAML too.
func (l *lines) print(parts ...any) {
	for _, part := range parts {
		if l.err != nil {
			return
		}
		if text, ok := part.(string); ok {
			_, l.err = l.w.WriteString(text)
			continue
		}
		text, err := json.Marshal(part)
		if err != nil {
			l.err = err
			return
		}
		_, l.err = l.w.Write(text)
	}
}

func (l *lines) flush() error {
	if l.err == nil {
		l.err = l.w.Flush()
	}
	if l.err != nil {
		return fmt.Errorf("write a roster of tenants: %w", l.err)
	}
	return nil
}
