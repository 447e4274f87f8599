package remotewrite

import "encoding/binary"

// AppendPacked appends the series and the metadata of msg to dst in the way in which vminsert takes messages of many tenants: on
// each series tags, with labels of the same names taken out, and last of all its labels vm_account_id and vm_project_id; on each entry of
// metadata, last of all, the fields 11 and 12 instead of its own. Of msg with what was appended before vminsert makes the series that it
// would make of msg alone, sent to the tenant's own URL with tags as extra_label. That holds for messages without reserved
// labels, as Strip leaves them, and for tags not named __name__ or vmrange.
//
// labels is the most labels that one series now has, counted as Counts.Labels is: vminsert drops a series with more than its
// -maxLabelsPerTimeseries without a word. Whoever finds it too many cuts packed to the length of dst again.
//
// Unknown fields of series and metadata stay, those of the message are left out. Apart from dst nothing is allocated. dst must
// not overlap msg. An error is an *Error of kind ErrMalformed, packed is then dst as it was; a message that has passed Scan has
// none.
func AppendPacked(dst, msg []byte, account, project uint32, tags []Label) (packed []byte, labels int, err error) {
	r := newRelabel(false, tags).withTenant(account, project)
	packed = dst
	for i := 0; i < len(msg); {
		f, reason := step(msg, i)
		if reason != "" {
			return dst, 0, notWalked(i, reason)
		}
		i = f.to
		content := msg[f.from:f.to]
		switch f.tag {
		case uint64(tagTimeseries):
			s, reason := r.survey(content)
			if reason != "" {
				return dst, 0, notWalked(f.from, reason)
			}
			labels = max(labels, countedLabels(s.labels+r.puts(), s.histograms))
			packed = binary.AppendUvarint(append(packed, tagTimeseries), uint64(s.stay+r.size))
			packed = r.append(packed, content, s)
		case uint64(tagMetadata):
			m := MetadataView(content)
			stay, reason := m.stay()
			if reason != "" {
				return dst, 0, notWalked(f.from, reason)
			}
			packed = binary.AppendUvarint(append(packed, tagMetadata), uint64(stay+tenantFieldsSize(account, project)))
			packed = appendTenantFields(m.appendTo(packed), account, project)
		}
	}
	return packed, labels, nil
}

// PackedSize is the most bytes that AppendPacked appends for a message of so many bytes, with so many series and entries of
// metadata.
func PackedSize(message, series, metadata int, account, project uint32, tags []Label) int {
	r := newRelabel(false, tags).withTenant(account, project)
	fields := tenantFieldsSize(account, project)
	return message + series*r.growth() + metadata*(fields+uvarintSize(fields))
}

func notWalked(offset int, reason string) error {
	return &Error{Kind: ErrMalformed, Series: -1, Offset: offset, Reason: reason}
}
