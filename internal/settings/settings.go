// Package settings reads, checks and prints the settings of all components.
//
// A component keeps its settings in a struct of its own. Each field is one environment variable: the program's prefix, the
// group's prefix and the field's name, joined by underscores, so that field MaxBytes of the group BUFFER is
// INGESTGW_BUFFER_MAX_BYTES. The tags of a field are
//
//	default:"…"         the value when the variable is not set; without it the field keeps what it has
//	unit:"…"            what a number counts, such as "bytes"; types that carry their unit in the value need none
//	desc:"…"            what the operator reads: what it is, and what 0 or empty means
//	split_words:"true"  the name has several words: MaxBytes is MAX_BYTES, StorageURLs is STORAGE_URLS
//
// Structs inside structs add their own name to the prefix, embedded ones do not. Values are converted by envconfig
// (https://pkg.go.dev/github.com/kelseyhightower/envconfig); its name tags are not used, because a field with a name tag is
// also read from the variable of that bare name.
package settings

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

// A Group is the settings of one component. Several groups may share a prefix.
type Group struct {
	// Prefix is what the names of the group's variables begin with, after the program's prefix; empty for the settings of the
	// program as a whole.
	Prefix string
	// Title is the heading above the group wherever settings are printed.
	Title string
	// Config points to the struct that holds the settings. When it has a method Validate() error, Load calls it.
	Config any
}

// A Setting is one variable as it is printed.
type Setting struct {
	Name    string // the whole variable, such as INGESTGW_BUFFER_DIR
	Title   string // of its group
	Type    string // what may stand in it, such as "duration"
	Unit    string // what a number counts; empty when the value says so itself
	Default string // empty when there is none
	Desc    string
	Value   string // the current value; *** in place of what is secret
}

// Load sets the fields of all groups from the environment and validates them. The error joins everything that is wrong:
// values that cannot be read, variables that begin with prefix and are no setting, and what the configs' own Validate says.
// No error shows a secret.
func Load(prefix string, groups ...Group) error {
	var errs []error
	known := map[string]bool{}
	for _, g := range groups {
		var unread []string
		for _, f := range fields(prefix, g) {
			known[f.name] = true
			if err := f.load(); err != nil {
				errs = append(errs, err)
				unread = append(unread, f.name)
			}
		}
		errs = append(errs, validate(g.Config, unread)...)
	}
	errs = append(errs, unknownVariables(prefix, known, os.Environ()))
	return errors.Join(errs...)
}

// validate returns what the config says is wrong, without what it says of fields that could not be read: they hold zeros.
func validate(config any, unread []string) []error {
	v, ok := config.(interface{ Validate() error })
	if !ok {
		return nil
	}
	return slices.DeleteFunc(Flatten(v.Validate()), func(err error) bool {
		return slices.ContainsFunc(unread, func(name string) bool { return strings.Contains(err.Error(), name) })
	})
}

// Flatten lists the errors that errors.Join has joined, also within each other; none for nil.
func Flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	parts := joined.Unwrap()
	if errors.Join(parts...).Error() != err.Error() { // made by fmt.Errorf with several %w: a sentence of its own
		return []error{err}
	}
	var list []error
	for _, one := range parts {
		list = append(list, Flatten(one)...)
	}
	return list
}

// Describe lists the settings of all groups in the order of their fields, with the values that the fields have now.
func Describe(prefix string, groups ...Group) []Setting {
	var list []Setting
	for _, g := range groups {
		for _, f := range fields(prefix, g) {
			list = append(list, f.describe(g.Title))
		}
	}
	return list
}

// A field is one setting inside a config struct.
type field struct {
	name  string // of the variable
	tag   reflect.StructTag
	value reflect.Value // settable
}

func fields(prefix string, g Group) []field {
	v := reflect.ValueOf(g.Config)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("settings: group %q: Config is %T, want a pointer to a struct", g.Prefix, g.Config))
	}
	return appendFields(nil, join(prefix, g.Prefix), v.Elem())
}

func appendFields(list []field, prefix string, s reflect.Value) []field {
	for sf, v := range s.Fields() {
		switch {
		case sf.Tag.Get("ignored") == "true":
		case sf.Anonymous && isGroup(v):
			list = appendFields(list, prefix, v)
		case !sf.IsExported():
		case isGroup(v):
			list = appendFields(list, join(prefix, variable(sf)), v)
		default:
			list = append(list, field{name: join(prefix, variable(sf)), tag: sf.Tag, value: v})
		}
	}
	return list
}

// isGroup says whether v is a struct of settings rather than one value.
func isGroup(v reflect.Value) bool {
	if v.Kind() != reflect.Struct {
		return false
	}
	_, isValue := reflect.New(v.Type()).Interface().(interface{ UnmarshalText([]byte) error })
	return !isValue
}

func join(prefix, name string) string {
	if prefix == "" || name == "" {
		return prefix + name
	}
	return prefix + "_" + name
}

// variable is the name of the field in the environment, without prefix.
func variable(sf reflect.StructField) string {
	if sf.Tag.Get("split_words") != "true" {
		return strings.ToUpper(sf.Name)
	}
	return strings.ToUpper(strings.Join(splitWords(sf.Name), "_"))
}

// splitWords cuts a Go name into its words as envconfig does, but keeps the plural of an abbreviation whole: StorageURLs is
// Storage and URLs, where envconfig says Storage, UR and Ls.
func splitWords(name string) []string {
	upper := func(i int) bool { return i < len(name) && 'A' <= name[i] && name[i] <= 'Z' }
	plural := func(i int) bool { return i+1 < len(name) && name[i+1] == 's' && (i+2 == len(name) || upper(i+2)) }
	var list []string
	start := 0
	for i := 1; i < len(name); i++ {
		afterLower := upper(i) && !upper(i-1)
		endsAbbreviation := upper(i) && upper(i-1) && i+1 < len(name) && !upper(i+1) && !plural(i)
		if afterLower || endsAbbreviation {
			list = append(list, name[start:i])
			start = i
		}
	}
	return append(list, name[start:])
}

// load sets the field from its variable or its default. envconfig stops at the first value that it cannot convert, so it is
// handed a struct of this one field, which bears the variable's name.
func (f field) load() error {
	one := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: f.name,
		Type: f.value.Type(),
		Tag:  defaultTag(f.tag),
	}}))
	one.Elem().Field(0).Set(f.value)
	if err := envconfig.Process("", one.Interface()); err != nil {
		return f.explain(err)
	}
	f.value.Set(one.Elem().Field(0))
	return nil
}

// defaultTag is the part of the tag that envconfig is to see.
func defaultTag(tag reflect.StructTag) reflect.StructTag {
	def, ok := tag.Lookup("default")
	if !ok {
		return ""
	}
	return reflect.StructTag("default:" + strconv.Quote(def))
}

// explain says what is wrong with the variable's value. It shows the value only of types that can hold no secret: envconfig's
// own text has every value in full.
func (f field) explain(err error) error {
	var parse *envconfig.ParseError
	if !errors.As(err, &parse) {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	want := f.kind().want
	if parse.Value == "" {
		return fmt.Errorf("%s is set to nothing: unset it for the default, or set it to %s", f.name, want)
	}
	if f.kind().explains {
		return fmt.Errorf("%s: %w", f.name, parse.Err)
	}
	return fmt.Errorf("%s=%q: want %s", f.name, parse.Value, want)
}

func (f field) describe(title string) Setting {
	return Setting{
		Name:    f.name,
		Title:   title,
		Type:    f.kind().name,
		Unit:    f.tag.Get("unit"),
		Default: f.tag.Get("default"),
		Desc:    f.tag.Get("desc"),
		Value:   format(f.value),
	}
}
