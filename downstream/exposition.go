package downstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// errNotMetrics: what came is no page of metrics.
var errNotMetrics = errors.New("not a page of metrics")

// maxPage bounds the bytes read from one page. A vminsert with a million tenants shows about 90 MB.
const maxPage = 512 << 20

// A line is one sample of a page in the Prometheus text format. Its bytes are valid until the next one is read.
type line struct {
	name   []byte
	labels []byte // what stands between the braces
	value  []byte
}

// scan reads a page line by line and hands the samples to visit, whose error ends it; those for which skip is true are not even taken
// apart. It holds no more than buf, which is overwritten, and allocates nothing; a line that is longer than buf is passed over. It
// returns how many bytes it read, and an error when they are more than most.
//
// A page that does not end with a line feed was cut off on the way and is an error: with the end of a page, values that
// something is concluded from might be missing.
func scan(r io.Reader, buf []byte, most int64, skip func(text []byte) bool, visit func(line) error) (size int64, err error) {
	filled, tooLong, last := 0, false, byte('\n')
	for {
		n, err := r.Read(buf[filled:])
		size += int64(n)
		filled += n
		if n > 0 {
			last = buf[filled-1]
		}
		rest := buf[:filled]
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				break
			}
			text := rest[:end]
			rest = rest[end+1:]
			if tooLong {
				tooLong = false
				continue
			}
			if skip(text) {
				continue
			}
			if err := visitLine(text, visit); err != nil {
				return size, err
			}
		}
		filled = copy(buf, rest)
		if filled == len(buf) {
			filled, tooLong = 0, true
		}
		switch {
		case size > most:
			return size, fmt.Errorf("%w: larger than %d bytes", errNotMetrics, most)
		case errors.Is(err, io.EOF) && last != '\n':
			return size, fmt.Errorf("page cut off after %d bytes: %w", size, io.ErrUnexpectedEOF)
		case errors.Is(err, io.EOF):
			return size, nil
		case err != nil:
			return size, err
		}
	}
}

func visitLine(text []byte, visit func(line) error) error {
	l, ok, err := parseLine(text)
	if err != nil || !ok {
		return err
	}
	return visit(l)
}

// parseLine takes a line apart. ok is false for comments and empty lines.
func parseLine(text []byte) (l line, ok bool, err error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || text[0] == '#' {
		return line{}, false, nil
	}
	end := bytes.IndexAny(text, "{ \t")
	if end <= 0 {
		return line{}, false, malformed(text)
	}
	l.name = text[:end]
	text = text[end:]
	if text[0] == '{' {
		end := closingBrace(text)
		if end < 0 {
			return line{}, false, malformed(text)
		}
		l.labels = text[1:end]
		text = text[end+1:]
	}
	text = bytes.TrimLeft(text, " \t")
	if len(text) == 0 {
		return line{}, false, malformed(l.name)
	}
	l.value = text
	if end := bytes.IndexAny(text, " \t"); end >= 0 {
		l.value = text[:end] // what follows is a timestamp
	}
	return l, true, nil
}

// nameOf is what a line begins with; empty when it may be no sample.
func nameOf(text []byte) []byte {
	for i, c := range text {
		if c == '{' || c == ' ' || c == '\t' {
			return text[:i]
		}
	}
	return nil
}

func malformed(text []byte) error {
	return fmt.Errorf("%w: cannot make sense of %.40q", errNotMetrics, text)
}

// closingBrace is the index of the brace that ends the labels which text begins with, or -1.
func closingBrace(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '}':
			return i
		case '"':
			end := closingQuote(text[i+1:])
			if end < 0 {
				return -1
			}
			i += 1 + end
		}
	}
	return -1
}

// closingQuote is the index of the first quotation mark that no backslash stands before, or -1.
func closingQuote(text []byte) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// label returns the value of a label as it is written on the page: escapes are left in place, which none of the values that are
// asked for here have. ok is false when there is no such label.
func (l line) label(name string) (value []byte, ok bool) {
	rest := l.labels
	for len(rest) > 0 {
		eq := bytes.IndexByte(rest, '=')
		if eq < 0 || eq+1 >= len(rest) || rest[eq+1] != '"' {
			return nil, false
		}
		key := bytes.Trim(rest[:eq], " \t,")
		rest = rest[eq+2:]
		end := closingQuote(rest)
		if end < 0 {
			return nil, false
		}
		if string(key) == name {
			return rest[:end], true
		}
		rest = rest[end+1:]
	}
	return nil, false
}
