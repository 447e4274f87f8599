package remotewrite

import "github.com/cespare/xxhash/v2"

// A Label is the name and the value of one.
type Label struct{ Name, Value []byte }

// A View is one series as it stands in a message, without the tag and the length in front. Its methods decode nothing and
// allocate nothing; they panic when the message has not passed Scan and is malformed.
type View []byte

// Get returns the value of the label, which points into v; nil when the series has no such label.
func (v View) Get(name string) []byte {
	for i := 0; i < len(v); {
		f := mustStep(v, i)
		if f.number() == seriesLabels {
			if found, value := mustReadLabel(v[f.from:f.to:f.to]); string(found) == name {
				return value
			}
		}
		i = f.to
	}
	return nil
}

// Once is Get for a series that Sift has taken out: ok is false when it has several labels of that name.
func (v View) Once(name string) (value []byte, ok bool) {
	found := 0
	for i := 0; i < len(v); {
		f := mustStep(v, i)
		if f.number() == seriesLabels {
			if n, text := mustReadLabel(v[f.from:f.to:f.to]); string(n) == name {
				value = text
				found++
			}
		}
		i = f.to
	}
	return value, found <= 1
}

// Labels is how many labels the series has, counted as Counts.Labels is.
func (v View) Labels() int {
	s := must(new(relabel).survey(v))
	return countedLabels(s.labels, s.histograms)
}

// Samples is how many samples and native histograms the series has.
func (v View) Samples() (samples, histograms int) {
	s := must(new(relabel).survey(v))
	return s.samples, s.histograms
}

// Longest is the bytes of the longest name and the longest value of its labels.
func (v View) Longest() (name, value int) {
	for i := 0; i < len(v); {
		f := mustStep(v, i)
		if f.number() == seriesLabels {
			n, x := mustReadLabel(v[f.from:f.to])
			name, value = max(name, len(n)), max(value, len(x))
		}
		i = f.to
	}
	return name, value
}

// Hash tells series apart: it is the xxhash of the bytes of all labels as they are written, in their order, and of nothing
// else. A sender writes a series alike each time, with other samples. Two that write it differently have different hashes.
//
// KNOWN GAP: xxhash has no secret. Whoever wants to can make series of his own that collide; all that he gets is that they
// count as one.
func (v View) Hash() uint64 {
	from, to := labelRun(v, 0)
	for i := to; i < len(v); {
		if _, i = usualFields(v, i, tagSample); i == len(v) {
			break
		}
		f := mustStep(v, i)
		if f.number() == seriesLabels {
			return hashApart(v, from, to)
		}
		i = f.to
	}
	return xxhash.Sum64(v[from:to])
}

// labelRun is where the first labels at or behind b[i] stand one behind the other; at the end of b when there are no more.
func labelRun(b []byte, i int) (from, to int) {
	from = i
	for i < len(b) {
		if _, i = usualFields(b, i, tagLabel); i == len(b) {
			break
		}
		f := mustStep(b, i)
		if f.number() != seriesLabels {
			if from < i {
				return from, i
			}
			from = f.to
		}
		i = f.to
	}
	return from, i
}

// hashApart is Hash when labels do not all stand together. v[from:to] are the first of them.
func hashApart(v View, from, to int) uint64 {
	var d xxhash.Digest
	d.Reset()
	for from < len(v) {
		d.Write(v[from:to]) //nolint:errcheck // it has no errors
		from, to = labelRun(v, to)
	}
	return d.Sum64()
}

// times are those of the samples and histograms in v.
func (v View) times() timeRange {
	times, usual := noTimes, noUsualTimes
	for i := 0; i < len(v); {
		_, t, end := usualSamples(v, i)
		usual.add(t)
		if i = end; i == len(v) {
			break
		}
		f := mustStep(v, i)
		switch f.number() {
		case seriesSamples:
			times.add(lastNumber(v[:f.to], f.from, sampleTimestamp))
		case seriesHistograms:
			times.add(lastNumber(v[:f.to], f.from, histogramTimestamp))
		}
		i = f.to
	}
	return times.with(usual)
}

// lastNumber is the value of the varint field in b[i:], which has been walked before: the last when there are several, 0 when
// there is none.
func lastNumber(b []byte, i, number int) (v int64) {
	for f := range fields(b, i) {
		if f.number() == number {
			v = int64(f.varint(b))
		}
	}
	return v
}

// readLabel reads a label as lib/prompb and protobuf do: of a field that stands several times the last counts. One that cannot be
// walked has a reason.
func readLabel(label []byte) (name, value []byte, reason string) {
	if n := usualNameLen(label); n >= 0 {
		return label[2 : 2+n : 2+n], label[4+n:], ""
	}
	name, value = label[:0], label[:0]
	for i := 0; i < len(label); {
		f, reason := nextField(label, i)
		if reason != "" {
			return nil, nil, reason
		}
		switch f.number() {
		case labelNameField:
			name = label[f.from:f.to:f.to]
		case labelValueField:
			value = label[f.from:f.to:f.to]
		}
		i = f.to
	}
	return name, value, ""
}

// mustReadLabel is readLabel in a message that has passed Scan.
func mustReadLabel(label []byte) (name, value []byte) {
	name, value, reason := readLabel(label)
	if reason != "" {
		notScanned(reason)
	}
	return name, value
}

// usualNameLen is how long the name of a label is that is written as usual: name, then value, every length in one byte, and
// nothing else. It is -1 for others.
func usualNameLen(label []byte) int {
	if len(label) < 4 || len(label) > short || label[0] != tagLabelName {
		return -1
	}
	n := int(label[1])
	if 4+n > len(label) || label[2+n] != tagLabelValue || 4+n+int(label[3+n]) != len(label) {
		return -1
	}
	return n
}
