package remotewrite

// What VictoriaMetrics' lib/prompb fills in memory, in bytes on a 64-bit machine.
const (
	seriesStruct   = 48 // TimeSeries: two slices
	labelStruct    = 32 // Label: two strings
	sampleStruct   = 16 // Sample: value and timestamp
	metadataMemory = 64 // MetricMetadata: three strings, three numbers
	spanStruct     = 8  // bucketSpan
	vmrangeText    = 32 // the value of the label vmrange, such as -1.234e+100...-1.234e+101, rounded up
	histogramText  = 3 * len("_bucket")
)

// histogramRows is how many series one histogram becomes besides those of its buckets: _count, _sum, and the zero bucket.
const histogramRows = 3

// seriesMemory is the memory for the series just walked. Each row of a histogram is a series with one sample, all labels, and
// vmrange; and each histogram spells the metric name anew with three endings.
func (s *Scanner) seriesMemory() uint64 {
	const perRow = seriesStruct + sampleStruct + labelStruct + vmrangeText
	labels := uint64(s.labels) * labelStruct
	memory := seriesStruct + labels + uint64(s.samples)*sampleStruct
	memory += uint64(s.histograms) * uint64(3*s.metric.len()+histogramText)
	memory += uint64(s.rows)*(perRow+labels) + uint64(s.spans)*spanStruct
	return memory
}

func (s *Scanner) expand(memory uint64, at int) error {
	s.expanded += memory
	if s.lim.Expanded > 0 && s.expanded > uint64(s.lim.Expanded) {
		return s.fault(ErrTooLarge, at, "decoded up to here it takes %d bytes, the limit is %d", s.expanded, s.lim.Expanded)
	}
	return nil
}
