package status

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/memory"
)

// A described is a schema of openapi.yaml, as much of it as is compared.
type described struct {
	Type                 any                   `yaml:"type"`
	Format               string                `yaml:"format"`
	Ref                  string                `yaml:"$ref"`
	Description          string                `yaml:"description"`
	Properties           map[string]*described `yaml:"properties"`
	Items                *described            `yaml:"items"`
	AnyOf                []*described          `yaml:"anyOf"`
	AdditionalProperties any                   `yaml:"additionalProperties"`
}

type description struct {
	Paths map[string]map[string]struct {
		Summary   string           `yaml:"summary"`
		Security  []map[string]any `yaml:"security"`
		Responses map[string]any   `yaml:"responses"`
	} `yaml:"paths"`
	Components struct {
		Schemas map[string]*described `yaml:"schemas"`
	} `yaml:"components"`
}

func readDescription(t *testing.T) description {
	t.Helper()
	var d description
	if err := yaml.Unmarshal(openapi, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOpenAPIDescribesEveryRouteAndNoOther(t *testing.T) {
	s, _ := listen(t)
	var served, told []string
	for _, pattern := range s.routes().patterns {
		served = append(served, strings.ReplaceAll(pattern, "{$}", ""))
	}
	for path, methods := range readDescription(t).Paths {
		for method, m := range methods {
			told = append(told, strings.ToUpper(method)+" "+path)
			if m.Summary == "" || len(m.Responses) == 0 {
				t.Errorf("%s %s has no summary or no answers", method, path)
			}
			wants := method != "get" || strings.HasPrefix(path, "/debug/")
			if wants != (len(m.Security) > 0) {
				t.Errorf("%s %s: security %v, and it is protected: %t", method, path, m.Security, wants)
			}
		}
	}
	slices.Sort(served)
	slices.Sort(told)
	if !slices.Equal(served, told) {
		t.Errorf("served:\n%s\ndescribed:\n%s", strings.Join(served, "\n"), strings.Join(told, "\n"))
	}
}

func TestOpenAPIDescribesEveryFieldAndNoOther(t *testing.T) {
	c := comparison{t: t, schemas: readDescription(t).Components.Schemas, seen: map[string]bool{}}
	for _, answer := range []any{Status{}, Alarms{}, Nodes{}, History{}, Event{}, Wrong{}, memory.View{}} {
		c.object(reflect.TypeOf(answer))
	}
	for name := range c.schemas {
		if !c.seen[name] {
			t.Errorf("schema %s is of no answer", name)
		}
	}
}

// A comparison holds schemas against types.
type comparison struct {
	t       *testing.T
	schemas map[string]*described
	seen    map[string]bool
}

// nameOf is how a struct is called in the description: those of package memory have its name before their own.
func nameOf(typ reflect.Type) string {
	if typ.PkgPath() == reflect.TypeFor[memory.View]().PkgPath() {
		return "Memory" + typ.Name()
	}
	return typ.Name()
}

// object compares a struct with the schema of its name.
func (c *comparison) object(typ reflect.Type) {
	if c.seen[nameOf(typ)] {
		return
	}
	c.seen[nameOf(typ)] = true
	schema := c.schemas[nameOf(typ)]
	if schema == nil {
		c.t.Errorf("there is no schema %s", nameOf(typ))
		return
	}
	fields := jsonFields(typ)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if schema.Properties[name] == nil {
			c.t.Errorf("%s.%s is not described", nameOf(typ), name)
			continue
		}
		c.value(nameOf(typ)+"."+name, fields[name], schema.Properties[name])
	}
	for name := range schema.Properties {
		if fields[name] == nil {
			c.t.Errorf("%s.%s is described and not there", nameOf(typ), name)
		}
	}
}

// value compares what a field holds.
func (c *comparison) value(where string, typ reflect.Type, schema *described) {
	want := ""
	switch {
	case typ.Kind() == reflect.Pointer:
		if len(schema.AnyOf) != 2 || schema.AnyOf[1].Type != "null" {
			c.t.Errorf("%s may be null, which is not described", where)
			return
		}
		c.value(where, typ.Elem(), schema.AnyOf[0])
		return
	case typ == reflect.TypeFor[memory.Percent]():
		if list, ok := schema.Type.([]any); !ok || !reflect.DeepEqual(list, []any{"integer", "string"}) {
			c.t.Errorf("%s is a number or off, described as %v", where, schema.Type)
		}
		return
	case typ == reflect.TypeFor[time.Time]():
		if schema.Type != "string" || schema.Format != "date-time" {
			c.t.Errorf("%s is a time, described as %v %s", where, schema.Type, schema.Format)
		}
		return
	case typ == reflect.TypeFor[downstream.Figure]():
		if list, ok := schema.Type.([]any); !ok || !reflect.DeepEqual(list, []any{"number", "null"}) {
			c.t.Errorf("%s is a number or null, described as %v", where, schema.Type)
		}
		return
	case typ.Kind() == reflect.Struct:
		if schema.Ref != "#/components/schemas/"+nameOf(typ) {
			c.t.Errorf("%s is a %s, described as %q", where, nameOf(typ), schema.Ref)
		}
		c.object(typ)
		return
	case typ.Kind() == reflect.Slice:
		want = "array"
		if schema.Items == nil {
			c.t.Errorf("%s: nothing is said of its items", where)
			return
		}
		c.value(where+"[]", typ.Elem(), schema.Items)
	case typ.Kind() == reflect.Map:
		want = "object"
	case typ.Kind() == reflect.Bool:
		want = "boolean"
	case typ.Kind() == reflect.String:
		want = "string"
	case slices.Contains([]reflect.Kind{reflect.Int, reflect.Int64, reflect.Uint64}, typ.Kind()):
		want = "integer"
	case typ.Kind() == reflect.Float64:
		want = "number"
	}
	if schema.Type != want {
		c.t.Errorf("%s is %s, described as %v", where, want, schema.Type)
	}
}

// jsonFields lists the fields of a struct by their names in JSON; those of embedded structs are its own.
func jsonFields(typ reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range typ.Fields() {
		if f.Anonymous {
			maps.Copy(fields, jsonFields(f.Type))
			continue
		}
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields[name] = f.Type
	}
	return fields
}
