package remotewrite_test

import (
	"iter"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// slowly says what rewriteSlowly does to a message.
type slowly struct {
	strip  bool                 // reserved labels and fields are taken out
	gone   func(entry int) bool // series and metadata entries that are left out, by their number among all of these; nil: none
	tags   []remotewrite.Label  // are put on series
	tenant []uint32             // account and project, if they are put
	bare   bool                 // unknown fields of the message are left out, and tags and lengths in front of entries written anew
}

// rewriteSlowly does what Strip, Edit, Divide and AppendPacked do, with another reader of the wire.
func rewriteSlowly(msg []byte, how slowly) (out []byte) {
	entry := -1
	for len(msg) > 0 {
		number, typ, tag := protowire.ConsumeTag(msg)
		size := tag + protowire.ConsumeFieldValue(number, typ, msg[tag:])
		opening, whole := msg[:tag], msg[:size]
		msg = msg[size:]
		if number != 1 && number != 3 {
			if !how.bare {
				out = append(out, whole...)
			}
			continue
		}
		if entry++; how.gone != nil && how.gone(entry) {
			continue
		}
		if how.bare {
			opening = protowire.AppendTag(nil, number, protowire.BytesType)
		}
		content, _ := protowire.ConsumeBytes(whole[tag:])
		changed, does := how.entry(number, content)
		if !does && !how.bare {
			out = append(out, whole...)
			continue
		}
		out = append(out, opening...)
		out = protowire.AppendBytes(out, changed)
	}
	return out
}

// entry rewrites one series or one entry of metadata.
func (how slowly) entry(outer protowire.Number, content []byte) (out []byte, changed bool) {
	rest, put := content, 0
	for len(rest) > 0 {
		number, typ, tag := protowire.ConsumeTag(rest)
		size := tag + protowire.ConsumeFieldValue(number, typ, rest[tag:])
		goes := outer == 3 && (number == 11 || number == 12) && (how.strip || how.tenant != nil)
		if outer == 1 && number == 1 {
			label, _ := protowire.ConsumeBytes(rest[tag:])
			goes = how.takes(lastString(label))
		}
		changed = changed || goes
		if !goes {
			out = append(out, rest[:size]...)
		}
		if outer == 1 && number == 1 {
			put = len(out)
		}
		rest = rest[size:]
	}
	var more []byte
	if outer == 1 {
		more = how.labels()
	} else if how.tenant != nil {
		put = len(out)
		more = join(number(11, uint64(how.tenant[0])), number(12, uint64(how.tenant[1])))
	}
	return join(out[:put], more, out[put:]), changed || len(more) > 0
}

func (how slowly) takes(name string) bool {
	for _, tag := range how.tags {
		if string(tag.Name) == name {
			return true
		}
	}
	return how.strip && isReserved(name)
}

func (how slowly) labels() (b []byte) {
	for _, tag := range how.tags {
		b = append(b, labels(string(tag.Name), string(tag.Value))...)
	}
	if how.tenant != nil {
		account, project := strconv.Itoa(int(how.tenant[0])), strconv.Itoa(int(how.tenant[1]))
		b = append(b, labels("vm_account_id", account, "vm_project_id", project)...)
	}
	return b
}

// lastString is the last field 1 of msg.
func lastString(msg []byte) (s string) {
	for len(msg) > 0 {
		number, typ, tag := protowire.ConsumeTag(msg)
		if number == 1 {
			s, _ = protowire.ConsumeString(msg[tag:])
		}
		msg = msg[tag+protowire.ConsumeFieldValue(number, typ, msg[tag:]):]
	}
	return s
}

// labelsSlowly are the bytes of all labels of a series.
func labelsSlowly(series []byte) (b []byte) {
	for len(series) > 0 {
		number, typ, tag := protowire.ConsumeTag(series)
		size := tag + protowire.ConsumeFieldValue(number, typ, series[tag:])
		if number == 1 {
			b = append(b, series[:size]...)
		}
		series = series[size:]
	}
	return b
}

// An entry is one series or one entry of metadata.
type entry struct {
	outer   int // its field number
	content []byte
}

func entriesSlowly(msg []byte) (entries []entry) {
	for len(msg) > 0 {
		number, typ, tag := protowire.ConsumeTag(msg)
		if number == 1 || number == 3 {
			content, _ := protowire.ConsumeBytes(msg[tag:])
			entries = append(entries, entry{int(number), content})
		}
		msg = msg[tag+protowire.ConsumeFieldValue(number, typ, msg[tag:]):]
	}
	return entries
}

func metadataSlowly(msg []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, e := range entriesSlowly(msg) {
			if e.outer == 3 && !yield(e.content) {
				return
			}
		}
	}
}

// tagSets are tags as tenants may have them. Some are names that generate writes into series.
var tagSets = [][]remotewrite.Label{
	nil,
	tags("org", "acme", "region", "eu-1"),
	tags("instance", "t", "job", "tagged"),
	tags("a", "1", "kubernetes_pod", "x", "kubernetes_pod_name", "y", "le:gacy", "z", "vm_account_ix", "q"),
	tags("job", string(make([]byte, 300))),
}

func tagsFor(msg []byte) []remotewrite.Label { return tagSets[len(msg)%len(tagSets)] }

func tags(pairs ...string) (out []remotewrite.Label) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, remotewrite.Label{Name: []byte(pairs[i]), Value: []byte(pairs[i+1])})
	}
	return out
}
