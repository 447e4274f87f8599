package ingest

import (
	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// rewrite makes anew what cannot be stored as it was sent: without what is reserved. It takes the budget for the space that it
// needs, and puts the result in the place of the body.
func rewrite(dec *decoder, message []byte, counts remotewrite.Counts, buf *bodyBuffer, h *hold) (checked, error) {
	message = remotewrite.Strip(message[:0], message)
	most := snappy.MaxEncodedLen(len(message))
	if err := h.take(int64(most)); err != nil {
		return checked{}, err
	}
	if cap(dec.encoded) < most {
		dec.encoded = make([]byte, most)
	}
	buf.replace(snappy.Encode(dec.encoded[:most], message))
	return checked{payload: buf.b, decoded: len(message), counts: counts}, nil
}
