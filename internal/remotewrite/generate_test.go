package remotewrite_test

import (
	"math"
	"strings"
)

// generate makes a message out of a program: every byte is a choice. Most of what comes out is valid or nearly so, which is
// what a fuzzer that flips bytes of the message itself hardly ever gets.
func generate(program []byte) []byte {
	g := generator(program)
	var msg []byte
	for len(g) > 0 {
		switch g.choose(8) {
		case 0:
			msg = append(msg, g.metadata()...)
		case 1:
			if g.rarely() {
				msg = append(msg, g.unknown()...)
			}
		default:
			msg = append(msg, message(1, g.series())...)
		}
	}
	return msg
}

type generator []byte

func (g *generator) next() byte {
	if len(*g) == 0 {
		return 0
	}
	c := (*g)[0]
	*g = (*g)[1:]
	return c
}

func (g *generator) choose(n byte) byte { return g.next() % n }

func (g *generator) rarely() bool { return g.choose(16) == 15 }

func (g *generator) text() string {
	words := []string{
		"__name__", "vm_account_id", "vm_project_id", "VictoriaMetrics_AccountID", "VictoriaMetrics_ProjectID",
		"job", "instance", "vm_account_ix", "VictoriaMetrics_", "__name", "__name__x", "größe", "a", "b\x00",
		"kubernetes_namespace", "kubernetes_pod", "kubernetes_pod_name", "le:gacy",
	}
	if g.rarely() {
		if g.rarely() {
			return []string{"", "x\xff"}[g.choose(2)]
		}
	}
	c := g.next()
	if int(c) < len(words) {
		return words[c]
	}
	if c > 250 {
		return strings.Repeat("long_", int(g.next()))
	}
	return string(rune('a'+c%26)) + strings.Repeat(string(rune('a'+g.choose(26))), int(c/26))
}

func (g *generator) number() uint64 {
	numbers := []uint64{0, 1, 2, 3, 100, 1 << 20, math.MaxUint32, math.MaxUint32 + 1, 1_790_000_000_000, math.MaxInt64, math.MaxUint64}
	return numbers[g.choose(byte(len(numbers)))]
}

func (g *generator) double() float64 {
	doubles := []float64{
		0, 1, -1, 0.5, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1),
		math.Float64frombits(0x7ff0000000000002), math.MaxFloat64, 2,
	}
	return doubles[g.choose(byte(len(doubles)))]
}

func (g *generator) unknown() []byte {
	switch g.choose(5) {
	case 0:
		return number(17, g.number())
	case 1:
		return double(1000, g.double())
	case 2:
		return text(200, g.text())
	case 3:
		return field(30, fixed32, 1, 2, 3, 4)
	}
	return field(19, group)
}

func (g *generator) metadata() []byte {
	var b []byte
	for range g.choose(6) {
		switch g.choose(8) {
		case 0:
			b = append(b, number(1, uint64(g.choose(9)))...)
		case 1:
			b = append(b, number(11, uint64(g.next()))...)
		case 2:
			b = append(b, number(12, uint64(g.next()))...)
		case 3:
			b = append(b, text(4, g.text())...)
		case 4:
			b = append(b, text(5, g.text())...)
		default:
			b = append(b, text(2, g.text())...)
		}
	}
	if g.rarely() {
		b = append(b, number(uint64(1+g.choose(14)), g.number())...)
	}
	return message(3, b)
}

func (g *generator) label() []byte {
	name, value := text(1, g.text()), text(2, g.text())
	if !g.rarely() {
		return join(name, value)
	}
	switch g.choose(8) {
	case 0:
		return join(value, name)
	case 1:
		return name
	case 2:
		return join(name, name, value)
	case 3:
		return join(name, value, text(1, g.text()), text(2, g.text()))
	case 4:
		return join(name, number(7, g.number()), value)
	case 5:
		return value
	}
	return join(name, value)
}

func (g *generator) sample() []byte {
	value, timestamp := double(1, g.double()), number(2, g.number())
	switch g.choose(12) {
	case 0:
		return join(timestamp, value)
	case 1:
		return timestamp
	case 2:
		return value
	case 3:
		return join(value, text(3, g.text()), timestamp, value, number(2, 5))
	}
	return join(value, timestamp)
}

func (g *generator) exemplar() []byte {
	b := join(double(2, g.double()), number(3, g.number()))
	for range g.choose(4) {
		b = append(b, message(1, g.label())...)
	}
	return b
}

func (g *generator) series() []byte {
	var b []byte
	if !g.rarely() {
		b = labels("__name__", "up")
	}
	for n := g.choose(16); n > 0 && len(*g) > 0; n-- {
		b = append(b, message(1, g.label())...)
	}
	kind := g.choose(8)
	for range g.choose(5) {
		switch {
		case kind == 0:
			b = append(b, message(3, g.exemplar())...)
		case kind < 4:
			b = append(b, message(4, g.histogram())...)
		default:
			b = append(b, message(2, g.sample())...)
		}
	}
	if g.rarely() {
		b = append(b, message(2, g.sample())...)
	}
	if g.rarely() {
		b = append(b, g.unknown()...)
	}
	if g.rarely() {
		b = append(b, message(1, g.label())...)
	}
	return b
}

// histogram adds up, unless a choice spoils it.
func (g *generator) histogram() []byte {
	floats, custom := g.choose(2) == 0, g.choose(4) == 0
	positive, observed := g.buckets(11, floats)
	b := positive
	if custom {
		b = join(b, number(4, zigzag(-53)))
		for i := range 12 {
			b = append(b, double(16, float64(i))...)
		}
	} else {
		negative, more := g.buckets(8, floats)
		observed += more
		b = join(b, negative, number(4, zigzag(int64(g.choose(9)))))
	}
	if g.rarely() {
		observed++
	}
	if floats {
		b = append(b, double(2, float64(observed))...)
	} else {
		b = append(b, number(1, observed)...)
	}
	if g.rarely() {
		b = append(b, double(3, g.double())...)
	}
	if g.rarely() {
		b = append(b, number(uint64(1+g.choose(16)), g.number())...)
	}
	if g.rarely() {
		b = append(b, double(uint64(1+g.choose(16)), g.double())...)
	}
	return append(b, number(15, g.number())...)
}

// buckets writes spans in field first, and deltas or counts in the next fields.
func (g *generator) buckets(first uint64, floats bool) (b []byte, observed uint64) {
	var deltas, counts []byte
	last := int64(0)
	for range g.choose(4) {
		n := g.choose(4)
		b = append(b, message(first, join(number(1, zigzag(int64(g.choose(2)))), number(2, uint64(n))))...)
		for range n {
			count := int64(g.choose(10))
			deltas = append(deltas, uvarint(zigzag(count-last))...)
			counts = append(counts, float(float64(count))...)
			last = count
			observed += uint64(count)
		}
	}
	if floats {
		return append(b, message(first+2, counts)...), observed
	}
	return append(b, message(first+1, deltas)...), observed
}
