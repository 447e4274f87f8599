package remotewrite

import "encoding/binary"

// Strip appends msg to dst, without the reserved labels of its series and the reserved fields of its metadata. Of all else
// only the lengths of what enclosed them change: order, unknown fields and odd encodings stay as they are. The result is never
// longer than msg. dst may be msg[:0], since what is written never overtakes what is still to be read; otherwise it must not
// overlap msg. It panics when msg has not passed Scan and is malformed.
func Strip(dst, msg []byte) []byte {
	copied := 0 // msg[:copied] is in dst
	for outer := range fields(msg, 0) {
		size := strippedSize(msg, outer)
		if size == outer.to-outer.from {
			continue
		}
		_, length := uvarint(msg, outer.at) // behind the tag
		dst = append(dst, msg[copied:length]...)
		dst = binary.AppendUvarint(dst, uint64(size))
		for f := range fields(msg[:outer.to], outer.from) {
			if !stripped(msg, outer, f) {
				dst = append(dst, msg[f.at:f.to]...)
			}
		}
		copied = outer.to
	}
	return append(dst, msg[copied:]...)
}

// strippedSize is how many bytes of the content of outer, a field of the request, stay.
func strippedSize(msg []byte, outer field) int {
	size := outer.to - outer.from
	if outer.number() != requestTimeseries && outer.number() != requestMetadata {
		return size
	}
	for f := range fields(msg[:outer.to], outer.from) {
		if stripped(msg, outer, f) {
			size -= f.to - f.at
		}
	}
	return size
}

// stripped says whether f, a field of the series or of the metadata outer, is to go.
func stripped(msg []byte, outer, f field) bool {
	if outer.number() == requestMetadata {
		return reservedMetadata(f)
	}
	return f.number() == seriesLabels && f.to-f.from > len("vm_account_id") && reserved(nameOf(msg[:f.to], f.from).of(msg))
}

// reserved says whether vminsert would take a tenant from a label of that name.
func reserved(name []byte) bool {
	switch string(name) {
	case "vm_account_id", "vm_project_id", "VictoriaMetrics_AccountID", "VictoriaMetrics_ProjectID":
		return true
	}
	return false
}

// reservedMetadata says whether vminsert would take a tenant from the field.
func reservedMetadata(f field) bool {
	return f.number() == metadataAccount || f.number() == metadataProject
}

// notable says whether a name that begins with first may be one that matters.
func notable(first uint64) bool {
	return first == first8OfName || first == first8OfAccount || first == first8OfProject || first == first8OfPrometheus
}

// The first eight bytes of the names that matter, as first8 reads them.
const (
	first8OfName       = '_'<<56 | '_'<<48 | 'n'<<40 | 'a'<<32 | 'm'<<24 | 'e'<<16 | '_'<<8 | '_'
	first8OfAccount    = 'v'<<56 | 'm'<<48 | '_'<<40 | 'a'<<32 | 'c'<<24 | 'c'<<16 | 'o'<<8 | 'u'
	first8OfProject    = 'v'<<56 | 'm'<<48 | '_'<<40 | 'p'<<32 | 'r'<<24 | 'o'<<16 | 'j'<<8 | 'e'
	first8OfPrometheus = 'V'<<56 | 'i'<<48 | 'c'<<40 | 't'<<32 | 'o'<<24 | 'r'<<16 | 'i'<<8 | 'a'
)
