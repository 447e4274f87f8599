package remotewrite

import "iter"

// Split yields msg as several messages, each at most so many bytes long or, when one series or one metadata entry is longer
// than that, holding nothing else. They are ranges of msg in their order, and point into it; ranges in which no known field
// stands are left out. It panics when msg has not passed Scan and is malformed.
func Split(msg []byte, most int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		from, known := 0, false
		for f := range fields(msg, 0) {
			if f.to-from > most && f.at > from {
				if known && !yield(msg[from:f.at:f.at]) {
					return
				}
				from, known = f.at, false
			}
			known = known || f.number() == requestTimeseries || f.number() == requestMetadata
		}
		if known {
			yield(msg[from:len(msg):len(msg)])
		}
	}
}
