package settings

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Print writes the settings for a terminal: per setting its name and current value, its type and default, and what it means.
func Print(w io.Writer, list []Setting) error {
	var b bytes.Buffer
	title := ""
	for _, s := range list {
		if s.Title != title {
			title = s.Title
			fmt.Fprintf(&b, "# %s\n\n", title)
		}
		fmt.Fprintf(&b, "%s=%s\n", s.Name, s.Value)
		for _, line := range wrap(s.Desc+" "+s.typeAndDefault(), 100) {
			fmt.Fprintf(&b, "    %s\n", line)
		}
		fmt.Fprintln(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (s Setting) typeAndDefault() string {
	text := s.typeAndUnit()
	if s.Default == "" {
		return "[" + text + ", no default]"
	}
	return "[" + text + ", default " + s.Default + "]"
}

func (s Setting) typeAndUnit() string {
	if s.Unit == "" || s.Unit == s.Type {
		return s.Type
	}
	return s.Type + " of " + s.Unit
}

// wrap breaks text at spaces into lines of at most width characters, longer words apart.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// Markdown writes the settings as tables, one per title, without the current values.
func Markdown(w io.Writer, list []Setting) error {
	var b bytes.Buffer
	title := ""
	for _, s := range list {
		if s.Title != title {
			title = s.Title
			fmt.Fprintf(&b, "\n## %s\n\n| Variable | Type | Default | Meaning |\n|---|---|---|---|\n", title)
		}
		def := ""
		if s.Default != "" {
			def = "`" + s.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, cell(s.typeAndUnit()), cell(def), cell(s.Desc))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// cell escapes what would end a table's cell, or vanish as HTML.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(s)
}
