package settings

import (
	"encoding"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"
)

// A kind says what a setting of some Go type is called and how it is written.
type kind struct {
	name     string // as the operator reads it
	want     string // what an error asks for
	explains bool   // the type's own error says all and shows no secret
}

func (f field) kind() kind {
	switch f.value.Interface().(type) {
	case Bytes:
		return kind{"bytes", "bytes such as 1048576, 64MiB or 5GiB", true}
	case Size:
		return kind{"bytes or %", "bytes such as 2GiB, or per cent such as 90%", true}
	case Secret, []Secret:
		return kind{"secret", "a text", true}
	case Address:
		return kind{"address", "host:port such as :8480", true}
	case URL:
		return kind{"URL", "scheme://host:port", true}
	case URLs:
		return kind{"URLs", "URLs separated by commas", true}
	case slog.Level:
		return kind{name: "level", want: "debug, info, warn or error"}
	case time.Duration:
		return kind{name: "duration", want: "a duration such as 500ms, 30s or 2m"}
	}
	if _, ok := f.value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return kind{"text", "a value as described by ingestgw config", true}
	}
	return basicKind(f.value.Type())
}

func basicKind(t reflect.Type) kind {
	switch t.Kind() {
	case reflect.Bool:
		return kind{name: "true or false", want: "true or false"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return kind{name: "number", want: fmt.Sprintf("a whole number of at most %d bits", t.Bits())}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return kind{name: "number", want: fmt.Sprintf("a whole number, not negative, of at most %d bits", t.Bits())}
	case reflect.Float32, reflect.Float64:
		return kind{name: "number", want: "a number"}
	case reflect.Slice:
		return kind{"list", "values separated by commas", true}
	default:
		return kind{"text", "a text", true}
	}
}

// format is the value as it is written in a variable, without secrets.
func format(v reflect.Value) string {
	switch v := v.Interface().(type) {
	case slog.Level:
		return strings.ToLower(v.String())
	case time.Duration:
		return formatDuration(v)
	}
	if v.Kind() != reflect.Slice || v.Type() == reflect.TypeFor[URLs]() {
		return fmt.Sprint(v.Interface())
	}
	items := make([]string, v.Len())
	for i := range items {
		items[i] = format(v.Index(i))
	}
	return strings.Join(items, ",")
}

// formatDuration leaves out the zeros at the end: 2m, where String says 2m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
