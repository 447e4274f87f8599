package access

import (
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory"
)

// readNaming reads "tenants_from".
func readNaming(v value) (*directory.Naming, error) {
	n := &directory.Naming{Values: directory.ByNumber}
	err := v.readFields(func(key string, field value) (err error) {
		switch key {
		case "label", "labels":
			if n.Labels != nil {
				return field.faultf("want either label or labels")
			}
			n.Labels, err = field.labelNames(key)
		case "values":
			var text string
			text, err = field.text()
			n.Values = directory.Values(strings.Clone(text))
		case "table":
			n.Table, err = field.ids()
		case "missing":
			var text string
			if text, err = field.text(); err == nil {
				n.Missing, err = directory.ParseMissing(text)
			}
		default:
			return errKey
		}
		return err
	})
	if err == nil {
		err = v.at(n.Check())
	}
	return n, err
}

// labelNames reads one name, or a list.
func (v value) labelNames(key string) (names []string, err error) {
	one := func(item value) error {
		text, err := item.text()
		names = append(names, strings.Clone(text))
		return err
	}
	if key == "label" {
		return names, one(v)
	}
	return names, v.readList(one)
}

func (v value) ids() (map[string]tenant.ID, error) {
	texts, err := v.texts()
	if err != nil {
		return nil, err
	}
	m := make(map[string]tenant.ID, len(texts))
	for key, field := range v.fields() {
		id, err := field.id()
		if err != nil {
			return nil, field.at(err)
		}
		if key[0].text == "" {
			return nil, key.faultf("an empty value: that is for missing")
		}
		m[strings.Clone(key[0].text)] = id
	}
	return m, nil
}
