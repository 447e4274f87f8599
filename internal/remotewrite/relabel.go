package remotewrite

import (
	"encoding/binary"
	"strconv"
)

// The labels from which vminsert takes the tenant, and which it takes out of the series.
const (
	accountLabel = "vm_account_id"
	projectLabel = "vm_project_id"
)

// A relabel says which labels of a series go, and which are put behind the others. Its zero value changes nothing. All that
// takes labels out of series or puts some into them goes through it.
type relabel struct {
	reserved bool    // the reserved labels go
	tags     []Label // are put; labels of their names go
	lengths  uint64  // a bit for the length of each name that goes, modulo 64

	tenant           bool // accountLabel and projectLabel are put, behind the tags
	account, project uint32

	size int // bytes of what is put, as it is written
	at   int // where in the destination it stands already, in the first series; -1 before that
}

func newRelabel(reserved bool, tags []Label) relabel {
	r := relabel{reserved: reserved, tags: tags, size: labelsSize(tags), at: -1}
	if reserved {
		r.lengths = 1<<len(accountLabel) | 1<<len("VictoriaMetrics_AccountID")
	}
	for i := range tags {
		r.lengths |= 1 << (len(tags[i].Name) & 63)
	}
	return r
}

// withTenant puts the tenant's labels last.
func (r relabel) withTenant(account, project uint32) relabel {
	r.tenant, r.account, r.project = true, account, project
	r.size += labelSize(len(accountLabel), digits(account)) + labelSize(len(projectLabel), digits(project))
	return r
}

// puts is how many labels are put.
func (r *relabel) puts() int {
	if r.tenant {
		return len(r.tags) + 2
	}
	return len(r.tags)
}

// growth is the most bytes by which a series gets longer, with the length in front of it.
func (r *relabel) growth() int { return r.size + uvarintSize(r.size) }

// takes says whether the label of that name goes.
func (r *relabel) takes(name []byte) bool {
	if r.lengths>>(len(name)&63)&1 == 0 {
		return false
	}
	if r.reserved && reserved(name) {
		return true
	}
	for i := range r.tags {
		if string(r.tags[i].Name) == string(name) {
			return true
		}
	}
	return false
}

func (r *relabel) takesLabel(label []byte) bool {
	name, _ := mustReadLabel(label)
	return r.takes(name)
}

// A survey is what a series holds, apart from the labels that go.
type survey struct {
	stay       int // bytes of the series
	behind     int // where the last label ends, whether it goes or not: what is put comes here
	labels     int
	samples    int
	histograms int
	exemplars  int
	// the longest name and value that stay; at most 127 when none is longer than that
	longestName, longestValue int
}

// survey walks the series. It does not look into samples, histograms and exemplars, and into labels only when some may go. A
// series that cannot be walked has a reason.
func (r *relabel) survey(series []byte) (s survey, reason string) {
	s.stay = len(series)
	for i := 0; i < len(series); {
		if n, end := usualLabels(series, i, r.lengths); n > 0 {
			i, s.behind, s.labels = end, end, s.labels+n
		}
		n, end := usualFields(series, i, tagSample)
		i, s.samples = end, s.samples+n
		if i == len(series) {
			break
		}
		f, reason := step(series, i)
		if reason != "" {
			return survey{}, reason
		}
		i = f.to
		if f.number() > seriesHistograms {
			continue
		}
		if f.typ() != typeBytes {
			return survey{}, "a field of a series has the wrong wire type"
		}
		switch f.number() {
		case seriesLabels:
			if reason := s.label(r, series, f); reason != "" {
				return survey{}, reason
			}
		case seriesSamples:
			s.samples++
		case seriesHistograms:
			s.histograms++
		default:
			s.exemplars++
		}
	}
	return s, ""
}

// usualLabels walks the labels from b[i] on, as far as they surely stay and their lengths take one byte. lengths has a bit for
// the length of each name that may go, modulo 64.
func usualLabels(b []byte, i int, lengths uint64) (n, end int) {
	if lengths == 0 {
		return usualFields(b, i, tagLabel)
	}
	for i+1 < len(b) && b[i] == tagLabel && b[i+1] < 0x80 {
		to := i + 2 + int(b[i+1])
		if to > len(b) {
			break
		}
		name := usualNameLen(b[i+2 : to])
		if name < 0 || lengths>>(name&63)&1 != 0 {
			break
		}
		n, i = n+1, to
	}
	return n, i
}

// usualFields walks the fields with that tag from b[i] on, as far as their lengths take one byte.
func usualFields(b []byte, i int, tag byte) (n, end int) {
	for i+1 < len(b) && b[i] == tag && b[i+1] < 0x80 {
		to := i + 2 + int(b[i+1])
		if to > len(b) {
			break
		}
		n, i = n+1, to
	}
	return n, i
}

// label takes in the label f of the series.
func (s *survey) label(r *relabel, series []byte, f field) (reason string) {
	s.behind = f.to
	size := f.to - f.from
	if r.lengths == 0 && size <= short {
		s.labels++
		return ""
	}
	name, value, reason := readLabel(series[f.from:f.to])
	if r.takes(name) {
		s.stay -= f.to - f.at
		return reason
	}
	s.labels++
	if size > short {
		s.longestName, s.longestValue = max(s.longestName, len(name)), max(s.longestValue, len(value))
	}
	return reason
}

// must is the survey of a series that has passed Scan.
func must(s survey, reason string) survey {
	if reason != "" {
		notScanned(reason)
	}
	return s
}

// append appends the series, of which s is the survey, to dst as it becomes. All calls get the same dst, as it has grown.
func (r *relabel) append(dst, series []byte, s survey) []byte {
	if s.stay == len(series) {
		dst = append(dst, series[:s.behind]...)
		dst = r.put(dst)
		return append(dst, series[s.behind:]...)
	}
	for i := 0; i < len(series); {
		f := mustStep(series, i)
		if f.number() != seriesLabels || !r.takesLabel(series[f.from:f.to]) {
			dst = append(dst, series[f.at:f.to]...)
		}
		if f.to == s.behind {
			dst = r.put(dst)
		}
		i = f.to
	}
	return dst
}

// put appends what is put, which is encoded for the first series and copied from there for all others.
func (r *relabel) put(dst []byte) []byte {
	if r.size == 0 {
		return dst
	}
	if r.at >= 0 {
		return append(dst, dst[r.at:r.at+r.size]...)
	}
	r.at = len(dst)
	for i := range r.tags {
		dst = appendLabel(dst, r.tags[i].Name, r.tags[i].Value)
	}
	if r.tenant {
		dst = appendTenantLabel(dst, accountLabel, r.account)
		dst = appendTenantLabel(dst, projectLabel, r.project)
	}
	return dst
}

func appendTenantLabel(dst []byte, name string, id uint32) []byte {
	var text [maxDigits]byte
	return appendLabel(dst, name, strconv.AppendUint(text[:0], uint64(id), 10))
}

// appendLabel appends a label of a series.
func appendLabel[name string | []byte](dst []byte, n name, value []byte) []byte {
	dst = append(dst, tagLabel)
	dst = binary.AppendUvarint(dst, uint64(labelContent(len(n), len(value))))
	dst = append(dst, tagLabelName)
	dst = binary.AppendUvarint(dst, uint64(len(n)))
	dst = append(dst, n...)
	dst = append(dst, tagLabelValue)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// labelsSize is how many bytes the labels take in a series.
func labelsSize(labels []Label) (size int) {
	for i := range labels {
		size += labelSize(len(labels[i].Name), len(labels[i].Value))
	}
	return size
}

func labelSize(name, value int) int {
	content := labelContent(name, value)
	return 1 + uvarintSize(content) + content
}

func labelContent(name, value int) int {
	return 1 + uvarintSize(name) + name + 1 + uvarintSize(value) + value
}

const maxDigits = len("4294967295")

// digits is how many the number has.
func digits(n uint32) (d int) {
	for d = 1; n >= 10; d++ {
		n /= 10
	}
	return d
}
