package limit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"

	"github.com/ingestgw/ingestgw/tenant"
)

// What processes tell each other. A message is
//
//	size   field
//	1      version, 1. Messages of other versions are passed over
//	1      length of the process's name
//	…      the process's name, for logs
//	8      incarnation: a random number for each time that a process begins to share, little-endian
//	uvar   number of the message in its incarnation, counting up from 1
//	…      entries, up to the end
//
// An entry is
//
//	uvar   account
//	uvar   project
//	uvar   ×9: samples, bytes, requests that were taken to the main lane, then those taken to the bulk lane, then those that were
//	       refused; each since the last message that told of the tenant, and below 2^32
//	uvar   number of active series
//	4      ×that: the top 28 bits of each series' hash, little-endian, below 2^28
//
// A message is at most maxMessage bytes. It tells of one time only; whoever misses it knows a little less, and so does whoever sees
// it for the second time, or after a later one, and passes over it. Nothing is asked of the clocks of processes.
const (
	messageVersion = 1
	// maxMessage is below the 1 MiB that Kafka takes by default.
	maxMessage = 900 << 10
	// maxEntry is more than an entry without series takes.
	maxEntry = 12 * binary.MaxVarintLen32
	maxName  = 255
)

var (
	errMalformed = errors.New("malformed")
	errNewer     = errors.New("of another version")
)

// A speaker writes the messages of one process.
type speaker struct {
	self        string
	incarnation uint64
	seq         uint64
}

func newSpeaker(self string) *speaker {
	return &speaker{self: self[:min(len(self), maxName)], incarnation: rand.Uint64()}
}

// greet is a message that says no more than that the process is there.
func (s *speaker) greet() []byte {
	s.seq++
	b := []byte{messageVersion, byte(len(s.self))}
	b = append(b, s.self...)
	b = binary.LittleEndian.AppendUint64(b, s.incarnation)
	return binary.AppendUvarint(b, s.seq)
}

// tell is messages with what has not been told of these tenants.
func (s *speaker) tell(tenants []*Tenant) (messages [][]byte) {
	var b []byte
	for _, t := range tenants {
		u, news := t.takeUnsent()
		for first := true; first || len(news) > 0; first = false {
			if b != nil && maxMessage-len(b) < maxEntry+4*min(len(news), 1024) {
				messages, b = append(messages, b), nil
			}
			if b == nil {
				b = s.greet()
			}
			n := min(len(news), (maxMessage-len(b)-maxEntry)/4)
			b = appendEntry(b, t.id, u, news[:n])
			news, u = news[n:], use{}
		}
	}
	if b != nil {
		messages = append(messages, b)
	}
	return messages
}

func appendEntry(b []byte, id tenant.ID, u use, news []fingerprint) []byte {
	b = binary.AppendUvarint(b, uint64(id.Account))
	b = binary.AppendUvarint(b, uint64(id.Project))
	for _, of := range [...][kinds]uint32{u.main, u.bulk, u.refused} {
		for _, n := range of {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(news)))
	for _, p := range news {
		b = binary.LittleEndian.AppendUint32(b, uint32(p))
	}
	return b
}

// A message is one that is well-formed. It points into the bytes that it was parsed from.
type message struct {
	self             []byte
	incarnation, seq uint64
	body             []byte
}

// An entry is what a message tells of one tenant.
type entry struct {
	id     tenant.ID
	use    use
	series []byte
}

// parse reads a message, which may be anything.
func parse(b []byte) (message, error) {
	if len(b) > 0 && b[0] != messageVersion {
		return message{}, fmt.Errorf("message on limits: %w: %d", errNewer, b[0])
	}
	if len(b) < 2 || len(b) > maxMessage {
		return message{}, errMalformed
	}
	name, b := int(b[1]), b[2:]
	if len(b) < name+8 {
		return message{}, errMalformed
	}
	m := message{self: b[:name], incarnation: binary.LittleEndian.Uint64(b[name:])}
	seq, size := binary.Uvarint(b[name+8:])
	if size <= 0 {
		return message{}, errMalformed
	}
	m.seq, m.body = seq, b[name+8+size:]
	for rest := m.body; len(rest) > 0; {
		var ok bool
		if _, rest, ok = cutEntry(rest); !ok {
			return message{}, errMalformed
		}
	}
	return m, nil
}

func (m message) entries() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for rest := m.body; len(rest) > 0; {
			e, after, ok := cutEntry(rest)
			if !ok || !yield(e) {
				return
			}
			rest = after
		}
	}
}

func cutEntry(b []byte) (e entry, rest []byte, ok bool) {
	fields := [...]*uint32{
		&e.id.Account, &e.id.Project,
		&e.use.main[0], &e.use.main[1], &e.use.main[2],
		&e.use.bulk[0], &e.use.bulk[1], &e.use.bulk[2],
		&e.use.refused[0], &e.use.refused[1], &e.use.refused[2],
	}
	for _, field := range fields {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > math.MaxUint32 {
			return entry{}, nil, false
		}
		*field, b = uint32(n), b[size:]
	}
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size)/4 {
		return entry{}, nil, false
	}
	b = b[size:]
	e.series = b[:4*n]
	for i := range int(n) {
		if binary.LittleEndian.Uint32(e.series[4*i:])>>printBits != 0 {
			return entry{}, nil, false
		}
	}
	return e, b[4*n:], true
}

// prints are the series of an entry.
func (e entry) prints() iter.Seq[fingerprint] {
	return func(yield func(fingerprint) bool) {
		for b := e.series; len(b) > 0; b = b[4:] {
			if !yield(fingerprint(binary.LittleEndian.Uint32(b))) {
				return
			}
		}
	}
}
