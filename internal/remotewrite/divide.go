package remotewrite

import (
	"encoding/binary"
	"slices"
)

// A Divider cuts messages of senders that are trusted to name tenants. Its zero value is ready. It keeps some KiB of scratch
// memory between calls, and is not safe for concurrent use.
type Divider struct {
	pieces []piece
	parts  []Part
}

// A Part is what belongs together of a message that was divided: a message of its own.
type Part struct {
	// Message is empty when nothing belongs to the part. Appending to it does not overwrite another.
	Message []byte
	// Counts is what Scan would count in Message.
	Counts Counts

	size int // bytes that Message will have
}

// A piece is one series or one metadata entry of the message.
type piece struct {
	part int32 // -1: left out
	stay int32 // bytes without what is reserved; at most maxMessage
}

const (
	maxPieces = 1 << 14 // what a Divider keeps of each between calls
	maxParts  = 1 << 10
)

// Divide appends msg to dst anew, in parts that stand one behind the other. Without reserved labels and fields, each series goes
// into the part whose number ofSeries returns, and each entry of metadata into that of ofMetadata; below 0 it is left out. Both
// are called once for each, in the order of the message, and see what is reserved. Within a part the order stays. Fields of the
// message that are unknown are left out, those of series and metadata stay.
//
// There are as many parts as the largest number demands, so that numbers are best given out one by one from 0. What is
// appended is never longer than msg; besides, each series and each entry of metadata takes 8 bytes for as long as Divide runs,
// and each part some 150. Time and memory are linear in all of them. parts and their messages are valid until dst is overwritten or
// the next call. dst must not overlap msg. It panics when msg has not passed Scan and is malformed.
func (d *Divider) Divide(dst, msg []byte, ofSeries func(View) int, ofMetadata func(MetadataView) int) (out []byte, parts []Part) {
	d.pieces, d.parts = d.pieces[:0], d.parts[:0]
	r := newRelabel(true, nil)
	d.assign(&r, msg, ofSeries, ofMetadata)
	parts = d.parts
	out = d.open(dst)
	d.fill(&r, msg)
	if cap(d.pieces) > maxPieces {
		d.pieces = nil
	}
	if cap(d.parts) > maxParts {
		d.parts = nil
	}
	return out, parts
}

// assign finds the part of each piece, and how long the parts are.
func (d *Divider) assign(r *relabel, msg []byte, ofSeries func(View) int, ofMetadata func(MetadataView) int) {
	for i := 0; i < len(msg); {
		f := mustStep(msg, i)
		i = f.to
		switch f.number() {
		case requestTimeseries:
			series := View(msg[f.from:f.to:f.to])
			s := must(r.survey(series))
			if p := d.assignPiece(ofSeries(series), s.stay); p != nil {
				p.Counts.series(r, series, s)
			}
		case requestMetadata:
			m := MetadataView(msg[f.from:f.to:f.to])
			stay, reason := m.stay()
			if reason != "" {
				notScanned(reason)
			}
			if p := d.assignPiece(ofMetadata(m), stay); p != nil {
				p.Counts.Metadata++
			}
		}
	}
}

// assignPiece takes note of the next piece, and returns its part if it has one.
func (d *Divider) assignPiece(part, stay int) *Part {
	if part < 0 {
		d.pieces = append(d.pieces, piece{part: -1})
		return nil
	}
	d.pieces = append(d.pieces, piece{int32(part), int32(stay)})
	if missing := part + 1 - len(d.parts); missing > 0 {
		d.parts = slices.Grow(d.parts, missing)[:part+1]
		clear(d.parts[part+1-missing:])
	}
	p := &d.parts[part]
	p.size += 1 + uvarintSize(stay) + stay
	return p
}

// open makes room for all parts, one behind the other.
func (d *Divider) open(dst []byte) []byte {
	size := 0
	for i := range d.parts {
		size += d.parts[i].size
	}
	dst = slices.Grow(dst, size)
	at := len(dst)
	for i := range d.parts {
		p := &d.parts[i]
		p.Message = dst[at : at : at+p.size]
		at += p.size
	}
	return dst[:at]
}

// fill copies each piece into its part.
func (d *Divider) fill(r *relabel, msg []byte) {
	next := 0
	for i := 0; i < len(msg); {
		f := mustStep(msg, i)
		i = f.to
		if f.number() != requestTimeseries && f.number() != requestMetadata {
			continue
		}
		piece := d.pieces[next]
		next++
		if piece.part < 0 {
			continue
		}
		p := &d.parts[piece.part]
		stay, content := int(piece.stay), msg[f.from:f.to]
		p.Message = append(p.Message, byte(f.number()<<3)|byte(typeBytes))
		p.Message = binary.AppendUvarint(p.Message, uint64(stay))
		switch {
		case stay == len(content):
			p.Message = append(p.Message, content...)
		case f.number() == requestMetadata:
			p.Message = MetadataView(content).appendTo(p.Message)
		default:
			p.Message = r.append(p.Message, content, survey{stay: stay})
		}
	}
}
