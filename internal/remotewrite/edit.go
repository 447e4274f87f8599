package remotewrite

import "encoding/binary"

// An Edit says what becomes of the series of a message. Its zero value takes out what is reserved and leaves the rest alone.
type Edit struct {
	// Drop says which series are left out, with all that is in them. It sees them as they came, in their order, each once. What
	// it is given is valid until it returns. nil leaves out none.
	Drop func(View) bool
	// Tags are put on every series, behind its own labels. Labels of the same names are taken out. No name stands twice in Tags.
	Tags []Label
}

// Edited is what Apply has done.
type Edited struct {
	// Kept is what Scan would count in the result. Without series and metadata there is nothing to keep.
	Kept Counts
	// Dropped is how many series were left out, with how many samples, histograms and exemplars. Nothing else is counted.
	Dropped Counts
}

// Size is the most bytes that Apply appends for a message of so many bytes with so many series, whatever Drop says.
func (e *Edit) Size(message, series int) int {
	if len(e.Tags) == 0 {
		return message
	}
	r := newRelabel(true, e.Tags)
	return message + series*r.growth()
}

// Labels is how many labels the series has once it is edited, counted as Counts.Labels is.
func (e *Edit) Labels(v View) int {
	r := newRelabel(true, e.Tags)
	s := must(r.survey(v))
	return countedLabels(s.labels+r.puts(), s.histograms)
}

// Apply appends msg to dst as it becomes: without the series that Drop leaves out, without reserved labels and reserved fields
// of metadata, and with Tags. Of all else only the lengths of what enclosed them change: order, unknown fields and odd encodings
// stay as they are. Apart from dst nothing is allocated. Without Tags dst may be msg[:0], since what is written never overtakes
// what is still to be read; otherwise it must not overlap msg. It panics when msg has not passed Scan and is malformed.
func (e *Edit) Apply(dst, msg []byte) ([]byte, Edited) {
	r := newRelabel(true, e.Tags)
	var done Edited
	copied := 0 // of msg[:copied] is in dst what stays
	for i := 0; i < len(msg); {
		f := mustStep(msg, i)
		i = f.to
		switch f.number() {
		case requestTimeseries:
			series := View(msg[f.from:f.to:f.to])
			if e.Drop != nil && e.Drop(series) {
				done.Dropped.contents(must(new(relabel).survey(series)))
				dst = append(dst, msg[copied:f.at]...)
				copied = f.to
				continue
			}
			s := must(r.survey(series))
			done.Kept.series(&r, series, s)
			if s.stay == len(series) && r.size == 0 {
				continue
			}
			dst = appendOpening(dst, msg, copied, f.at, s.stay+r.size)
			dst = r.append(dst, series, s)
			copied = f.to
		case requestMetadata:
			done.Kept.Metadata++
			m := MetadataView(msg[f.from:f.to:f.to])
			size, reason := m.stay()
			if reason != "" {
				notScanned(reason)
			}
			if size == len(m) {
				continue
			}
			dst = appendOpening(dst, msg, copied, f.at, size)
			dst = m.appendTo(dst)
			copied = f.to
		}
	}
	return append(dst, msg[copied:]...), done
}

// appendOpening appends msg[from:at], and the tag of the field that stands at msg[at], with the length that its content has now.
func appendOpening(dst, msg []byte, from, at, size int) []byte {
	_, length := uvarint(msg, at) // behind the tag
	dst = append(dst, msg[from:length]...)
	return binary.AppendUvarint(dst, uint64(size))
}

// contents counts a series and what is in it.
func (c *Counts) contents(s survey) {
	c.Series++
	c.Samples += s.samples
	c.Histograms += s.histograms
	c.Exemplars += s.exemplars
}

// series counts a series as it becomes.
func (c *Counts) series(r *relabel, series View, s survey) {
	if s.samples+s.histograms > 0 {
		times := series.times()
		if c.Samples+c.Histograms > 0 {
			times.add(c.Newest)
			times.add(c.Oldest)
		}
		c.setTimes(times)
	}
	c.contents(s)
	c.Labels = max(c.Labels, countedLabels(s.labels+r.puts(), s.histograms))
	c.measure(s.longestName, s.longestValue)
	for i := range r.tags {
		c.measure(len(r.tags[i].Name), len(r.tags[i].Value))
	}
}
