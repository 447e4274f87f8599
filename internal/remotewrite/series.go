package remotewrite

import "iter"

// Series yields the series of msg, each as its own bytes, without the tag and the length in front. They point into msg. It
// panics when msg has not passed Scan and is malformed.
func Series(msg []byte) iter.Seq[View] {
	return func(yield func(View) bool) {
		for f := range fields(msg, 0) {
			if f.number() == requestTimeseries && !yield(msg[f.from:f.to:f.to]) {
				return
			}
		}
	}
}

// Metadata yields the entries of metadata of msg as Series does its series.
func Metadata(msg []byte) iter.Seq[MetadataView] {
	return func(yield func(MetadataView) bool) {
		for f := range fields(msg, 0) {
			if f.number() == requestMetadata && !yield(msg[f.from:f.to:f.to]) {
				return
			}
		}
	}
}

// fields are the fields of b[from:], which has passed Scan. It panics when it has not.
func fields(b []byte, from int) iter.Seq[field] {
	return func(yield func(field) bool) {
		for i := from; i < len(b); {
			f, reason := nextField(b, i)
			if reason != "" {
				notScanned(reason)
			}
			if !yield(f) {
				return
			}
			i = f.to
		}
	}
}

// labelNames are the names of all labels of the series b[from:], which has been walked before.
func labelNames(b []byte, from int) iter.Seq[span] {
	return func(yield func(span) bool) {
		for f := range fields(b, from) {
			if f.number() == seriesLabels && !yield(nameOf(b[:f.to], f.from)) {
				return
			}
		}
	}
}

// nameOf is the name of the label b[i:], which has been walked before.
func nameOf(b []byte, i int) (name span) {
	for i < len(b) {
		f, _ := nextField(b, i)
		if f.number() == labelNameField {
			name = f.span()
		}
		i = f.to
	}
	return name
}
