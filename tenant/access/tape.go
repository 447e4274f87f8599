package access

import (
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// A tape is a tree of YAML written down in the order in which it is read: each node stands before what is in it. One tape serves
// many small trees one after the other, so that half a million of them cost no memory.
type tape []node

type node struct {
	text  string // of a scalar, as written, without quotes
	line  int32
	size  int32 // nodes of the subtree, this one included
	shape shape
}

type shape uint8

const (
	null shape = iota
	scalar
	list
	mapping // keys and values by turns; a key is a scalar
)

func (k shape) String() string {
	return [...]string{null: "nothing", scalar: "a single value", list: "a list", mapping: "a mapping"}[k]
}

// A value is the part of a tape that is one subtree. The zero value is nothing.
type value []node

func (v value) shape() shape {
	if len(v) == 0 {
		return null
	}
	return v[0].shape
}

func (v value) line() int {
	if len(v) == 0 {
		return 0
	}
	return int(v[0].line)
}

// items yields what is in a list, or the keys and values of a mapping by turns.
func (v value) items() iter.Seq[value] {
	return func(yield func(value) bool) {
		for at := 1; at < len(v); {
			end := at + int(v[at].size)
			if !yield(v[at:end:end]) {
				return
			}
			at = end
		}
	}
}

// fields yields the keys and values of a mapping.
func (v value) fields() iter.Seq2[value, value] {
	return func(yield func(key, field value) bool) {
		var key value
		for item := range v.items() {
			if key == nil {
				key = item
				continue
			}
			if !yield(key, item) {
				return
			}
			key = nil
		}
	}
}

// A fault is something wrong with a line of the file.
type fault struct {
	line int
	err  error
}

func (f *fault) Error() string { return fmt.Sprintf("line %d: %v", f.line, f.err) }
func (f *fault) Unwrap() error { return f.err }

func (v value) faultf(format string, args ...any) error {
	return &fault{line: v.line(), err: fmt.Errorf(format, args...)}
}

// maxDepth is the deepest that objects and lists of a JSON item may stand in each other before it is left to the YAML library.
const maxDepth = 8

// appendJSON appends the one JSON value that text is. Not ok: text is something else, or could mean something else in YAML; the
// tape is then as it was. Strings are left to the YAML library when they hold escapes, since the two languages differ there.
func (t *tape) appendJSON(text string, line int) (ok bool) {
	was := len(*t)
	p := jsonReader{tape: *t, rest: text, line: int32(line)}
	ok = p.value(maxDepth) && strings.Trim(p.rest, " ") == ""
	*t = p.tape
	if !ok {
		*t = p.tape[:was]
	}
	return ok
}

type jsonReader struct {
	tape tape
	rest string
	line int32
}

func (p *jsonReader) value(depth int) bool {
	p.space()
	if p.rest == "" || depth == 0 {
		return false
	}
	switch p.rest[0] {
	case '{':
		return p.within(mapping, '}', func() bool {
			p.space()
			return strings.HasPrefix(p.rest, `"`) && p.text() && p.next(':') && p.value(depth-1)
		})
	case '[':
		return p.within(list, ']', func() bool { return p.value(depth - 1) })
	case '"':
		return p.text()
	}
	return p.word()
}

// within reads an object or a list, whose elements are what one reads.
func (p *jsonReader) within(k shape, end byte, one func() bool) bool {
	at := len(p.tape)
	p.tape = append(p.tape, node{line: p.line, shape: k})
	p.rest = p.rest[1:]
	for first := true; !p.next(end); first = false {
		if !first && !p.next(',') || !one() {
			return false
		}
	}
	p.tape[at].size = int32(len(p.tape) - at)
	return true
}

// text reads a string.
func (p *jsonReader) text() bool {
	end := strings.IndexByte(p.rest[1:], '"')
	if end < 0 {
		return false
	}
	s := p.rest[1 : 1+end]
	if !isPlain(s) {
		return false
	}
	p.rest = p.rest[end+2:]
	p.scalar(scalar, s)
	return true
}

// isPlain says whether s stands for itself between quotes, in JSON and in YAML.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '\\' || c == 0x7f {
			return false
		}
		if s[i] >= utf8.RuneSelf {
			return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r == '\\' || !unicode.IsPrint(r) })
		}
	}
	return true
}

// word reads a number, true, false or null.
func (p *jsonReader) word() bool {
	end := strings.IndexAny(p.rest, ",]} ")
	if end < 0 {
		return false
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	switch {
	case word == "null":
		p.scalar(null, "")
	case word == "true" || word == "false" || isNumber(word):
		p.scalar(scalar, word)
	default:
		return false
	}
	return true
}

func isNumber(s string) bool {
	return s != "" && s[0] >= '0' && s[0] <= '9' && strings.Trim(s, "0123456789.") == ""
}

func (p *jsonReader) scalar(k shape, text string) {
	p.tape = append(p.tape, node{text: text, line: p.line, size: 1, shape: k})
}

func (p *jsonReader) space() {
	for p.rest != "" && p.rest[0] == ' ' {
		p.rest = p.rest[1:]
	}
}

func (p *jsonReader) next(c byte) bool {
	p.space()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// maxNodes bounds what aliases may grow a file to, for each byte of it. Without aliases there is less than one node for each.
const maxNodes = 4

// parseYAML reads one YAML document. An empty one is nothing.
func parseYAML(text string) (value, error) {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var root, second yaml.Node
	if err := decoder.Decode(&root); err == io.EOF { //nolint:errorlint // the library returns it bare
		return nil, nil
	} else if err != nil {
		return nil, namingLine(err, text)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, &fault{line: second.Line, err: fmt.Errorf("a second YAML document: want one")}
	}
	t := yamlReader{left: maxNodes*len(text) + 16}
	if err := t.append(&root, root.Line); err != nil {
		return nil, err
	}
	return value(t.tape), nil
}

// namingLine returns an error that says the line also where the library does not.
func namingLine(err error, text string) error {
	if strings.Contains(err.Error(), "line ") {
		return err
	}
	for i, line := range strings.Split(text, "\n") {
		strange := func(r rune) bool { return r != '\t' && r != '\r' && (unicode.IsControl(r) || r == utf8.RuneError) }
		if strings.ContainsFunc(line, strange) {
			return &fault{line: i + 1, err: err}
		}
	}
	return err
}

type yamlReader struct {
	tape  tape
	left  int // nodes that may follow
	depth int
}

// maxYAMLDepth is far more than the file has any use for. An alias within what it names would be endless.
const maxYAMLDepth = 32

// append writes n down. line is where it is used, which for what an alias names is not where it stands.
func (t *yamlReader) append(n *yaml.Node, line int) error {
	if t.left--; t.left < 0 {
		return &fault{line: line, err: fmt.Errorf("aliases make the file too large")}
	}
	if t.depth++; t.depth > maxYAMLDepth {
		return &fault{line: line, err: fmt.Errorf("nested too deeply")}
	}
	defer func() { t.depth-- }()
	at := len(t.tape)
	switch n.Kind {
	case yaml.DocumentNode:
		return t.append(n.Content[0], n.Content[0].Line)
	case yaml.AliasNode:
		return t.appendAlias(n, line)
	case yaml.ScalarNode:
		one := node{text: n.Value, shape: scalar}
		if n.ShortTag() == "!!null" {
			one = node{shape: null}
		}
		t.tape = append(t.tape, one)
	case yaml.SequenceNode:
		t.tape = append(t.tape, node{shape: list})
	case yaml.MappingNode:
		t.tape = append(t.tape, node{shape: mapping})
	default:
		return &fault{line: line, err: fmt.Errorf("YAML of a kind that is not known here")}
	}
	t.tape[at].line = int32(line)
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && c.Kind != yaml.ScalarNode {
			return &fault{line: c.Line, err: fmt.Errorf("a key that is no text")}
		}
		if err := t.append(c, c.Line); err != nil {
			return err
		}
	}
	t.tape[at].size = int32(len(t.tape) - at)
	return nil
}

func (t *yamlReader) appendAlias(n *yaml.Node, line int) error {
	at := len(t.tape)
	if err := t.append(n.Alias, line); err != nil {
		return err
	}
	t.tape[at].line = int32(line)
	return nil
}
