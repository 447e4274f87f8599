package remotewrite

import "hash/maphash"

// Limits bound what Scan accepts.
type Limits struct {
	// Series is the most series in one message; 0 means no bound.
	Series int

	// Expanded is the most memory, in bytes, that VictoriaMetrics' decoder may need for what the message holds; 0 means no
	// bound. A few bytes on the wire can ask for very much of it: an empty sample takes 2 bytes on the wire and 16 in memory,
	// empty metadata 2 and 64, and each native histogram becomes a series per bucket, each of them with a copy of all labels,
	// so that 20 KB can ask for 638 MB. Ordinary messages need about their own size, 2,000 histograms of 200 buckets and 15
	// labels 236 MiB: 256 MiB keeps the two sides apart.
	//
	// The count follows lib/prompb of VictoriaMetrics v1.151.0 (expanded.go) and is never less than what it fills, leaving
	// aside the slack of its growing slices.
	Expanded int

	// LegacyNames narrows metric names to [a-zA-Z_:][a-zA-Z0-9_:]* and label names to [a-zA-Z_][a-zA-Z0-9_]*, as Prometheus
	// did before version 3. Without it they are any UTF-8.
	LegacyNames bool
}

// Counts is what a message holds.
type Counts struct {
	Series     int
	Samples    int // without histograms
	Histograms int
	Exemplars  int
	Metadata   int
	// Reserved is the number of labels and metadata fields that Strip takes out.
	Reserved int
	// Labels is the most labels in one series, as vminsert's limit counts them: those that are reserved too, those without a
	// value (it leaves them out), and for native histograms vmrange, which it adds.
	Labels int
	// LongestName and LongestValue are the bytes of the longest name and value of a label; 0 when none is longer than 127.
	LongestName, LongestValue int
	// Newest and Oldest are the latest and the earliest timestamp of a sample or native histogram, in Unix milliseconds; 0 when there is
	// none.
	Newest, Oldest int64
}

// short is the longest name or value that Counts does not tell: those are as long as usual.
const short = 127

// measure takes note of a label with name and value of so many bytes.
func (c *Counts) measure(name, value int) {
	if name > short {
		c.LongestName = max(c.LongestName, name)
	}
	if value > short {
		c.LongestValue = max(c.LongestValue, value)
	}
}

// A Scanner walks messages. Its zero value is ready. It keeps a few KiB of scratch memory between calls and nothing of the
// messages. It is not safe for concurrent use.
type Scanner struct {
	msg    []byte
	lim    Limits
	counts Counts

	expanded   uint64         // bytes so far, see Limits.Expanded
	times      timeRange      // of the samples that scanSample and scanHistogram have walked
	usualTimes usualTimeRange // of the other samples
	inSeries   bool           // and its number is counts.Series-1
	series
	flaw flaw // of this series, when it is flawed
	sift sifting

	names  [maxNames]labelName // of the labels of this series, the first of them
	seen   seen
	seed   maphash.Seed // set when it is first needed
	hashes []uint64     // of label names
}

// A series is what Scan remembers of the series that it is in.
type series struct {
	labels     int
	samples    int
	histograms int
	rows       int    // series that VictoriaMetrics makes of the histograms
	spans      int    // bucket spans of the histograms
	metric     span   // the value of __name__
	lastFirst8 uint64 // first8 of the last label name
	unsorted   bool   // label names did not come in strictly ascending order
	flawed     bool   // it breaks a rule
}

const (
	requestTimeseries = 1
	requestMetadata   = 3

	seriesLabels     = 1
	seriesSamples    = 2
	seriesExemplars  = 3
	seriesHistograms = 4
)

// Scan validates all of msg and counts what it holds. An error is an *Error, and the counts are then zero. It allocates
// nothing, except for the error, and for a series of more than a thousand labels that do not come sorted: 8 bytes for each.
func (s *Scanner) Scan(msg []byte, lim Limits) (Counts, error) {
	s.msg, s.lim, s.counts = msg, lim, Counts{}
	s.expanded, s.inSeries = 0, false
	s.times, s.usualTimes = noTimes, noUsualTimes
	err := s.scanMessage(msg)
	s.msg = nil
	if err != nil {
		return Counts{}, err
	}
	if s.counts.Samples+s.counts.Histograms > 0 {
		s.counts.setTimes(s.times.with(s.usualTimes))
	}
	return s.counts, nil
}

func (s *Scanner) scanMessage(msg []byte) error {
	if len(msg) > maxMessage {
		return s.malformed(0, "the message has %d bytes, protobuf allows %d", len(msg), maxMessage)
	}
	known := len(msg) == 0
	for i := 0; i < len(msg); {
		f, reason := nextField(msg, i)
		if reason != "" {
			return s.malformed(i, "%s", reason)
		}
		switch f.number() {
		case requestTimeseries:
			known = true
			if err := s.scanTimeseries(f); err != nil {
				return err
			}
		case requestMetadata:
			known = true
			if err := s.scanMetadata(f); err != nil {
				return err
			}
		}
		i = f.to
	}
	if !known {
		return s.malformed(0, "no known field in %d bytes: not remote-write 1.0 (2.0 looks like this)", len(msg))
	}
	return nil
}

func (s *Scanner) scanTimeseries(f field) error {
	if f.typ() != typeBytes {
		return s.wrongType(f, "timeseries")
	}
	s.counts.Series++
	if s.lim.Series > 0 && s.counts.Series > s.lim.Series {
		return s.fault(ErrTooManySeries, f.at, "the limit is %d series per message", s.lim.Series)
	}
	s.inSeries, s.series = true, series{}
	b := s.msg[:f.to]
	if err := s.scanSeries(b, f.from); err != nil {
		return err
	}
	s.checkSeries(b, f.from)
	if s.flawed {
		return s.takeOut(f)
	}
	if err := s.expand(s.seriesMemory(), f.from); err != nil {
		return err
	}
	s.counts.Samples += s.samples
	s.counts.Histograms += s.histograms
	s.counts.Labels = max(s.counts.Labels, countedLabels(s.labels, s.histograms))
	s.inSeries = false
	return nil
}

// countedLabels is how many labels vminsert counts in a series that has so many of its own, with so many native histograms.
func countedLabels(labels, histograms int) int {
	if histograms > 0 {
		return labels + 1 // vmrange
	}
	return labels
}

// scanSeries walks the series that starts at b[i] and ends where b ends. Labels and samples nearly always come in runs.
func (s *Scanner) scanSeries(b []byte, i int) error {
	var err error
	for i < len(b) {
		if i, err = s.scanLabels(b, i); err != nil {
			return err
		}
		if i = s.scanUsualSamples(b, i); i == len(b) {
			return nil
		}
		if i, err = s.scanSeriesField(b, i); err != nil {
			return err
		}
	}
	return nil
}

// scanSeriesField walks one field of a series, whichever it is, and returns where it ends.
func (s *Scanner) scanSeriesField(b []byte, i int) (int, error) {
	f, reason := nextField(b, i)
	if reason != "" {
		return 0, s.malformed(i, "%s", reason)
	}
	if f.number() > seriesHistograms { // unknown
		return f.to, nil
	}
	if f.typ() != typeBytes {
		return 0, s.wrongType(f, "a field of a series")
	}
	switch f.number() {
	case seriesLabels:
		return f.to, s.scanLabel(b[:f.to], f)
	case seriesSamples:
		s.samples++
		return f.to, s.scanSample(b[:f.to], f.from)
	case seriesExemplars:
		s.counts.Exemplars++
		return f.to, s.scanExemplar(b[:f.to], f.from)
	default:
		s.histograms++
		return f.to, s.scanHistogram(b[:f.to], f.from)
	}
}

// checkSeries judges the series in b[from:], all of which has been walked.
func (s *Scanner) checkSeries(b []byte, from int) {
	if s.metric.len() == 0 {
		s.invalid(0, from, "no __name__ label with a value")
	}
	if s.samples > 0 && s.histograms > 0 {
		s.invalid(0, from, "both samples and histograms in one series")
	}
	if s.unsorted && !s.flawed && !s.distinctNames(b) {
		if name, repeated := s.repeatedName(b, from); repeated {
			s.invalid(name, name.from(), "the name stands twice in the series")
		}
	}
}

func (s *Scanner) wrongType(f field, what string) error {
	return s.malformed(f.at, "%s (field %d) has wire type %s", what, f.number(), f.typ())
}
