package remotewrite

import (
	"math"
	"unicode/utf8"
)

const (
	metadataType    = 1
	metadataMetric  = 2
	metadataHelp    = 4
	metadataUnit    = 5
	metadataAccount = 11
	metadataProject = 12
)

// scanMetadata walks f. An unknown metric type is let pass, a negative one is not: VictoriaMetrics
// refuses the whole request for it.
func (s *Scanner) scanMetadata(f field) error {
	if f.typ() != typeBytes {
		return s.wrongType(f, "metadata")
	}
	s.counts.Metadata++
	b := s.msg[:f.to]
	for i := f.from; i < len(b); {
		f, reason := nextField(b, i)
		if reason != "" {
			return s.malformed(i, "%s", reason)
		}
		if err := s.checkMetadata(f); err != nil {
			return err
		}
		if reservedMetadata(f) {
			s.counts.Reserved++
		}
		i = f.to
	}
	return s.expand(metadataMemory, f.at)
}

func (s *Scanner) checkMetadata(f field) error {
	switch f.number() {
	case metadataType, metadataAccount, metadataProject:
		if f.typ() != typeVarint {
			return s.wrongType(f, "a number in metadata")
		}
		if f.varint(s.msg) > math.MaxUint32 {
			return s.malformed(f.at, "field %d of metadata is above 32 bits", f.number())
		}
	case metadataMetric, metadataHelp, metadataUnit:
		if f.typ() != typeBytes {
			return s.wrongType(f, "a string in metadata")
		}
		if !utf8.Valid(s.msg[f.from:f.to]) {
			return s.malformed(f.from, "field %d of metadata is not UTF-8", f.number())
		}
	}
	return nil
}
