package remotewrite

// Strip appends msg to dst, without the reserved labels of its series and the reserved fields of its metadata: it is Apply of
// the zero Edit, and keeps its promises. The result is never longer than msg, and dst may be msg[:0].
func Strip(dst, msg []byte) []byte {
	dst, _ = new(Edit).Apply(dst, msg)
	return dst
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
