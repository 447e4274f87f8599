package tenant

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Profile is what is known of one tenant. It does not change: whoever learns something new makes another one.
type Profile struct {
	ID ID
	// Name is what people call the tenant; empty when it has no other name than its ID.
	Name string
	// Tags are put on every series of the tenant.
	Tags Tags
	// Drop says which series are left out before anything is stored. A series that fits one rule is dropped.
	Drop []Rule
	// Plan is how much the tenant may send. Tenants of one plan share it. nil is no limit.
	Plan *Plan
}

// Tags are labels that win over a sender's own, as they stand in the envelope of a record: for each, in the order of their names,
// the length of the name, the name, the length of the value, the value; lengths as uvarints. Empty is none.
type Tags []byte

// What tags may be. vminsert drops or cuts longer names and values, and series with more than 40 labels, and answers 2xx
// (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#list-of-command-line-flags: -maxLabelNameLen,
// -maxLabelValueLen, -maxLabelsPerTimeseries).
const (
	// MaxTags is the most bytes of Tags.
	MaxTags = 16 << 10
	// MaxTagCount leaves senders half of the labels that a series may have.
	MaxTagCount = 20
	// MaxTagName is the most bytes of a name.
	MaxTagName = 256
	// MaxTagValue is the most bytes of a value.
	MaxTagValue = 4096
)

// NewTags encodes labels. The error says which name or value cannot be a label, or may not be one here.
func NewTags(labels map[string]string) (Tags, error) {
	if len(labels) > MaxTagCount {
		return nil, fmt.Errorf("%d tags: at most %d are allowed", len(labels), MaxTagCount)
	}
	names := make([]string, 0, len(labels))
	for name := range labels {
		names = append(names, name)
	}
	slices.Sort(names)
	var tags Tags
	for _, name := range names {
		value := labels[name]
		if err := CheckTag(name, value); err != nil {
			return nil, err
		}
		tags = binary.AppendUvarint(tags, uint64(len(name)))
		tags = append(tags, name...)
		tags = binary.AppendUvarint(tags, uint64(len(value)))
		tags = append(tags, value...)
	}
	if len(tags) > MaxTags {
		return nil, fmt.Errorf("tags of %d bytes: at most %d are allowed", len(tags), MaxTags)
	}
	return tags, nil
}

// CheckTag says why a label cannot be a tag, or may not be one here.
func CheckTag(name, value string) error {
	switch {
	case len(name) > MaxTagName:
		return fmt.Errorf("tag %.40q…: a name of %d bytes: at most %d are allowed", name, len(name), MaxTagName)
	case len(value) > MaxTagValue:
		return fmt.Errorf("tag %q: a value of %d bytes: at most %d are allowed", name, len(value), MaxTagValue)
	case name == "" || value == "":
		return fmt.Errorf("tag %q=%.100q: want a name and a value", name, value)
	case name == "__name__" || name == "vmrange" || slices.Contains(Reserved[:], name): // vminsert makes vmrange of histograms
		return fmt.Errorf("tag %q: this label is not for tags", name)
	case strings.Contains(name, "="):
		return fmt.Errorf("tag %q: vminsert takes no name with = in it", name)
	case !utf8.ValidString(name) || !utf8.ValidString(value):
		return fmt.Errorf("tag %q=%.100q: not UTF-8", name, value)
	}
	return nil
}

// Reserved are the labels by which vminsert would take series for a tenant's
// (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#multitenancy-via-labels).
var Reserved = [...]string{"vm_account_id", "vm_project_id", "VictoriaMetrics_AccountID", "VictoriaMetrics_ProjectID"}

// All yields names and values, which point into t. It ends early where t is malformed, see Check.
func (t Tags) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for rest := []byte(t); len(rest) > 0; {
			name, after, ok := cutText(rest)
			value, after, alsoOK := cutText(after)
			if !ok || !alsoOK || !yield(name, value) {
				return
			}
			rest = after
		}
	}
}

// Check says whether t is what NewTags makes; it may have come from outside.
func (t Tags) Check() error {
	before, left, n := "", len(t), 0
	for name, value := range t.All() {
		n++
		if err := CheckTag(string(name), string(value)); err != nil {
			return err
		}
		if string(name) <= before {
			return errors.New("tags are not in the order of their names")
		}
		before = string(name)
		left -= uvarintLen(len(name)) + len(name) + uvarintLen(len(value)) + len(value)
	}
	if left != 0 || len(t) > MaxTags || n > MaxTagCount {
		return errors.New("malformed tags")
	}
	return nil
}

// String is {name="value", …}.
func (t Tags) String() string {
	var b strings.Builder
	sep := "{"
	for name, value := range t.All() {
		fmt.Fprintf(&b, "%s%s=%q", sep, name, value)
		sep = ", "
	}
	if b.Len() == 0 {
		return "{}"
	}
	return b.String() + "}"
}

func cutText(b []byte) (text, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size : size+int(n) : size+int(n)], b[size+int(n):], true
}

func uvarintLen(n int) int {
	return len(binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64), uint64(n)))
}
