package ingest

import (
	"fmt"

	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// rewrite makes anew what cannot be stored as it was sent: without what is reserved, and in parts when the buffer does not take
// all of it in one block. It takes the budget for the space that it needs, and puts the result in the place of the body.
func (s *Server) rewrite(dec *decoder, message []byte, counts remotewrite.Counts, buf *bodyBuffer, h *hold) (checked, error) {
	if counts.Reserved > 0 {
		message = remotewrite.Strip(message[:0], message)
	}
	most, before := s.gather.MaxPayload(nil), h.bytes
	parts := []checked{{payload: message, decoded: len(message), counts: counts}}
	encoded, err := dec.encode(parts, h, before)
	if err == nil && len(encoded) > most {
		if parts, err = dec.split(message, most, s.limits); err == nil {
			encoded, err = dec.encode(parts, h, before)
		}
	}
	if err == nil {
		err = checkParts(parts, most)
	}
	if err != nil {
		return checked{}, err
	}
	rest := buf.replace(encoded)
	for i := range parts {
		size := len(parts[i].payload)
		parts[i].payload, rest = rest[:size:size], rest[size:]
	}
	return checked{counts: counts, parts: parts}, nil
}

// split cuts message between its series so that each part fits into most bytes however little can be compressed; a part that is
// larger has one series or one metadata entry. The parts' payloads are not compressed yet.
func (dec *decoder) split(message []byte, most int, limits remotewrite.Limits) (parts []checked, err error) {
	size := (most - snappy.MaxEncodedLen(0)) * 6 / 7 // snappy.MaxEncodedLen adds a sixth
	for piece := range remotewrite.Split(message, size) {
		counts, err := dec.scan.Scan(piece, limits)
		if err != nil {
			return nil, fmt.Errorf("part %d of a request: %w", len(parts), err)
		}
		parts = append(parts, checked{payload: piece, decoded: len(piece), counts: counts})
	}
	return parts, nil
}

// encode compresses the payloads of parts into scratch space, one behind the other, and returns all of that. Besides what was
// held before, h then holds the scratch space.
func (dec *decoder) encode(parts []checked, h *hold, before int64) ([]byte, error) {
	size := 0
	for _, p := range parts {
		size += snappy.MaxEncodedLen(len(p.payload))
	}
	if err := h.set(before + int64(size)); err != nil {
		return nil, err
	}
	if cap(dec.encoded) < size {
		dec.encoded = make([]byte, size)
	}
	used, space := 0, dec.encoded[:size]
	for i := range parts {
		parts[i].payload = snappy.Encode(space[used:], parts[i].payload)
		used += len(parts[i].payload)
	}
	return space[:used], nil
}

// checkParts says which part does not fit into a block, if one does not. Nothing of the request has been stored then.
func checkParts(parts []checked, most int) error {
	series := 0
	for _, p := range parts {
		if len(p.payload) > most {
			what := "a metadata entry"
			if p.counts.Series > 0 {
				what = fmt.Sprintf("series %d", series)
			}
			return fmt.Errorf("%w: %s alone takes %d bytes compressed, the buffer takes %d in one block (it follows from "+
				"INGESTGW_BUFFER_MAX_BYTES, with Kafka from max.message.bytes of the topic)", errTooLarge, what, len(p.payload), most)
		}
		series += p.counts.Series
	}
	return nil
}
