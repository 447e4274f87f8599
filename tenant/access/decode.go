package access

import (
	"errors"
	"slices"
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
)

// errKey is what set returns to readFields for a key that it does not know.
var errKey = errors.New("unknown key")

// readFields calls set for each key of a mapping. Keys that stand twice, and those for which set returns errKey, are faults.
func (v value) readFields(set func(key string, field value) error) error {
	if v.shape() != mapping {
		return v.faultf("want a mapping of keys and values, got %s", v.shape())
	}
	var room [16]string
	seen := room[:0] // no mapping has as many keys that are known
	for key, field := range v.fields() {
		name := key[0].text
		if slices.Contains(seen, name) {
			return key.faultf("key %q stands twice", name)
		}
		seen = append(seen, name)
		if err := set(name, field); err != nil {
			if errors.Is(err, errKey) {
				return key.faultf("unknown key %q", name)
			}
			return field.at(err)
		}
	}
	return nil
}

// at makes err a fault of v's line, unless it says a line already.
func (v value) at(err error) error {
	var f *fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	return &fault{line: v.line(), err: err}
}

// text returns what a scalar says. It points into the file: whoever keeps it clones it.
func (v value) text() (string, error) {
	if v.shape() != scalar {
		return "", v.faultf("want a text, got %s", v.shape())
	}
	return v[0].text, nil
}

// readList calls one for each item of a list.
func (v value) readList(one func(item value) error) error {
	if v.shape() != list {
		return v.faultf("want a list, got %s", v.shape())
	}
	for item := range v.items() {
		if err := one(item); err != nil {
			return item.at(err)
		}
	}
	return nil
}

func (v value) id() (tenant.ID, error) {
	text, err := v.text()
	if err != nil {
		return tenant.ID{}, err
	}
	return tenant.Parse(text)
}

// texts reads a mapping from text to text, which it clones.
func (v value) texts() (map[string]string, error) {
	if v.shape() != mapping {
		return nil, v.faultf("want a mapping from names to values, got %s", v.shape())
	}
	m := make(map[string]string)
	for key, field := range v.fields() {
		if _, twice := m[key[0].text]; twice {
			return nil, key.faultf("key %q stands twice", key[0].text)
		}
		text, err := field.text()
		if err != nil {
			return nil, err
		}
		m[strings.Clone(key[0].text)] = strings.Clone(text)
	}
	return m, nil
}

// tags reads labels, as texts does.
func (v value) tags() (map[string]string, error) {
	m, err := v.texts()
	if err != nil {
		return nil, err
	}
	for key, field := range v.fields() {
		if err := tenant.CheckTag(key[0].text, field[0].text); err != nil {
			return nil, key.at(err)
		}
	}
	return m, nil
}
