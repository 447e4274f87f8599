package access

import (
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory"
)

// readNaming reads "tenants_from".
func readNaming(v value) (*directory.Naming, error) {
	n := &directory.Naming{Values: directory.ByNumber}
	var labels, table value
	err := v.readFields(func(key string, field value) (err error) {
		switch key {
		case "label", "labels":
			if labels != nil {
				return field.faultf("want either label or labels")
			}
			labels = field
			n.Labels, err = field.labelNames(key)
		case "values":
			var text string
			text, err = field.text()
			n.Values = directory.Values(strings.Clone(text))
			if err == nil && n.Values != directory.ByNumber && n.Values != directory.ByTable && n.Values != directory.ByDirectory {
				return field.faultf("values: %s: want number, table or directory", n.Values)
			}
		case "table":
			table = field
			n.Table, err = field.ids()
		case "missing":
			n.Missing, err = field.missing()
		default:
			return errKey
		}
		return err
	})
	switch {
	case err != nil:
	case labels == nil:
		err = v.faultf("want label, or labels")
	case len(n.Labels) == 2 && n.Values != directory.ByNumber:
		err = labels.faultf("two labels are an account and a project: want values: number")
	case (n.Values == directory.ByTable) != (table != nil):
		err = v.faultf("values: table and table belong together")
	}
	return n, err
}

// labelNames reads one name, or a list of two.
func (v value) labelNames(key string) (names []string, err error) {
	one := func(item value) error {
		text, err := item.text()
		names = append(names, strings.Clone(text))
		if err == nil && text == "" {
			return item.faultf("want the name of a label")
		}
		return err
	}
	if key == "label" {
		return names, one(v)
	}
	err = v.readList(one)
	if err == nil && len(names) != 2 {
		err = v.faultf("want two labels, account and project, got %d", len(names))
	}
	return names, err
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

func (v value) missing() (*tenant.ID, error) {
	text, err := v.text()
	if err != nil || text == "refuse" {
		return nil, err
	}
	id, err := tenant.Parse(text)
	if err != nil {
		return nil, v.faultf("want refuse or a tenant: %w", err)
	}
	return &id, nil
}
