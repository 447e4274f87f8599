package remotewrite

import (
	"encoding/binary"
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

const (
	tagMetadata        = requestMetadata<<3 | byte(typeBytes)
	tagMetadataAccount = metadataAccount<<3 | byte(typeVarint)
	tagMetadataProject = metadataProject<<3 | byte(typeVarint)
)

// A MetadataView is one entry of metadata as it stands in a message, without the tag and the length in front. Its methods
// allocate nothing; they panic when the message has not passed Scan and is malformed.
type MetadataView []byte

// Family is the name of the metric family, which points into m; empty when there is none.
func (m MetadataView) Family() (name []byte) {
	for i := 0; i < len(m); {
		f := mustStep(m, i)
		if f.number() == metadataMetric {
			name = m[f.from:f.to:f.to]
		}
		i = f.to
	}
	return name
}

// Tenant is what the reserved fields say, each 0 when it is missing; ok is false when both are.
func (m MetadataView) Tenant() (account, project uint32, ok bool) {
	for i := 0; i < len(m); {
		f := mustStep(m, i)
		switch f.number() {
		case metadataAccount:
			account, ok = uint32(f.varint(m)), true
		case metadataProject:
			project, ok = uint32(f.varint(m)), true
		}
		i = f.to
	}
	return account, project, ok
}

// stay is how many bytes are left without the reserved fields. An entry that cannot be walked has a reason.
func (m MetadataView) stay() (size int, reason string) {
	size = len(m)
	for i := 0; i < len(m); {
		f, reason := step(m, i)
		if reason != "" {
			return 0, reason
		}
		if reservedMetadata(f) {
			size -= f.to - f.at
		}
		i = f.to
	}
	return size, ""
}

// appendTo appends what is left without the reserved fields.
func (m MetadataView) appendTo(dst []byte) []byte {
	for i := 0; i < len(m); {
		f := mustStep(m, i)
		if !reservedMetadata(f) {
			dst = append(dst, m[f.at:f.to]...)
		}
		i = f.to
	}
	return dst
}

// appendTenantFields appends the reserved fields to metadata.
func appendTenantFields(dst []byte, account, project uint32) []byte {
	dst = binary.AppendUvarint(append(dst, tagMetadataAccount), uint64(account))
	return binary.AppendUvarint(append(dst, tagMetadataProject), uint64(project))
}

// tenantFieldsSize is how many bytes appendTenantFields appends.
func tenantFieldsSize(account, project uint32) int {
	return 1 + uvarintSize(int(account)) + 1 + uvarintSize(int(project))
}

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
