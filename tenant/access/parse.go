package access

import (
	"errors"
	"hash/maphash"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ingestgw/ingestgw/tenant"
)

// parse reads the text of a file. Tenants that stand as they did in previous, and which previous read under the same plans and
// defaults, are taken from there.
//
// A YAML library reads some 10 MB a second. So the lines in "tenants" that are a whole item in JSON are taken out first and read
// here, on all processors; the library gets the rest, with an empty line for each of them, so that its line numbers are right.
func parse(text string, previous *table, dir Directory) (*table, error) {
	lines := cut(text)
	each(lines, func(t *tape, i int) { lines[i].check(t, previous) })
	root, err := parseYAML(without(text, lines))
	if err != nil {
		return nil, err
	}
	b := builder{table: &table{directory: dir}, previous: previous}
	top, err := b.readTop(root)
	if err != nil {
		return nil, err
	}
	r := &reading{common: &b.common, previous: previous, directory: dir}
	reuse := b.common.same(&previous.common)
	if reuse {
		b.common = previous.common // with its plans, which the tenants of before point to
	}
	b.others.base = b.common.base
	inJSON, bad := r.readLines(lines, reuse)
	b.faults = append(b.faults, bad...)
	b.addRest(r, top, inJSON)
	if err := b.faults.err(); err != nil {
		return nil, err
	}
	return b.table, nil
}

// top is what stands at the top of the file and is read after what is common.
type top struct{ tenants, credentials value }

func (b *builder) readTop(root value) (top, error) {
	var t top
	if root.shape() == null {
		return t, errors.New("the file is empty: want tenants, be it as tenants: []") // it may be half written
	}
	var plans, defaults value
	err := root.readFields(func(key string, field value) error {
		switch key {
		case "plans":
			plans = field
		case "defaults":
			defaults = field
		case "tenants":
			t.tenants = field
		case "credentials":
			t.credentials = field
		default:
			return errKey
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	if err := b.common.readPlans(plans); err != nil {
		return t, err
	}
	return t, b.common.readDefaults(defaults)
}

// addRest reads what the library has, and adds that and what was read from lines.
func (b *builder) addRest(r *reading, t top, inJSON []found) {
	var tenants, credentials []found
	if t.tenants.shape() != null {
		b.faults.add(t.tenants.readList(func(item value) error {
			e, err := r.tenant(item)
			b.faults.add(err)
			if err == nil {
				tenants = append(tenants, found{line: item.line(), entry: e})
			}
			return nil
		}))
	}
	b.add(inJSON, tenants)
	if t.credentials.shape() != null {
		b.faults.add(t.credentials.readList(func(item value) error {
			c, err := r.shared(b.table, item)
			b.faults.add(err)
			if err == nil {
				credentials = append(credentials, found{line: item.line(), credential: c})
			}
			return nil
		}))
	}
	for _, f := range credentials {
		b.addOne(f, [][]found{inJSON, tenants, credentials})
	}
}

// A line is one that may be a whole tenant in JSON.
type line struct {
	start, end int    // in the file, without the line's end
	item       string // the JSON in it
	number     int32
	ok         bool   // it is one
	hash       uint64 // of item
	old        *entry // the tenant that the same item was before
}

// cut returns the lines of "tenants" that begin as items do, at the same depth as the first one, and look like JSON objects.
func cut(text string) []line {
	lines := make([]line, 0, strings.Count(text, "- {"))
	within, depth := false, -1
	number := int32(0)
	for at := 0; at < len(text); {
		end := at + len(text[at:])
		if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
			end = at + n
		}
		number++
		one := strings.TrimRight(text[at:end], " \r")
		content := strings.TrimLeft(one, " ")
		indent := len(one) - len(content)
		isItem := content == "-" || strings.HasPrefix(content, "- ")
		switch {
		case content == "" || content[0] == '#':
		case indent == 0 && !isItem:
			key, rest, _ := strings.Cut(one, ":")
			rest = strings.TrimLeft(rest, " ")
			within, depth = key == "tenants" && (rest == "" || rest[0] == '#'), -1
		case within && depth < 0:
			depth = indent
			fallthrough
		case within && indent == depth:
			if item := strings.TrimLeft(strings.TrimPrefix(content, "-"), " "); isItem && strings.HasPrefix(item, "{") && strings.HasSuffix(item, "}") {
				lines = append(lines, line{start: at, end: end, item: item, number: number})
			}
		}
		at = end + 1
	}
	return lines
}

// without is text with lines that are well left empty.
func without(text string, lines []line) string {
	var b strings.Builder
	at := 0
	for _, l := range lines {
		if l.ok {
			b.WriteString(text[at:l.start])
			at = l.end
		}
	}
	if at == 0 {
		return text
	}
	b.WriteString(text[at:])
	return b.String()
}

// check finds out whether l is JSON, and which tenant it was before.
func (l *line) check(t *tape, previous *table) {
	if l.ok = t.appendJSON(l.item, int(l.number)); !l.ok {
		return
	}
	l.hash = maphash.String(seed, l.item) | 1
	for key, field := range value(*t).fields() {
		if key[0].text != "id" || field.shape() != scalar {
			continue
		}
		id, err := tenant.Parse(field[0].text)
		if e := previous.tenants[id]; err == nil && e != nil && e.text == l.hash {
			l.old = e
		}
		return
	}
}

// readLines reads the tenants in lines.
func (r *reading) readLines(lines []line, reuse bool) (tenants []found, bad faults) {
	all := make([]found, len(lines))
	errs := make([]error, len(lines))
	each(lines, func(t *tape, i int) {
		l := &lines[i]
		switch {
		case !l.ok:
		case reuse && l.old != nil:
			all[i] = found{line: int(l.number), entry: l.old}
		default:
			t.appendJSON(l.item, int(l.number))
			e, err := r.tenant(value(*t))
			if errs[i] = err; err == nil {
				e.text = l.hash
				all[i] = found{line: int(l.number), entry: e}
			}
		}
	})
	for _, err := range errs {
		bad.add(err)
	}
	return slices.DeleteFunc(all, func(f found) bool { return f.entry == nil }), bad
}

// batch is how many lines a processor takes at a time.
const batch = 1024

// each calls do with the index of each line, on all processors, and with an empty tape. It returns when all calls have.
func each(lines []line, do func(t *tape, i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(lines)/batch+1) {
		all.Go(func() { // ends with the last batch; Wait waits for it
			var t tape
			for {
				end := int(next.Add(batch))
				for i := end - batch; i < min(end, len(lines)); i++ {
					t = t[:0]
					do(&t, i)
				}
				if end >= len(lines) {
					return
				}
			}
		})
	}
	all.Wait()
}
