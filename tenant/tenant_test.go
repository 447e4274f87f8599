package tenant

import (
	"strings"
	"testing"
)

func TestParseReadsWhatVminsertReads(t *testing.T) {
	for text, want := range map[string]ID{
		"0":                     {},
		"0:0":                   {},
		"12":                    {Account: 12},
		"12:34":                 {Account: 12, Project: 34},
		"4294967295:4294967295": {Account: 4294967295, Project: 4294967295},
		"007":                   {Account: 7},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestParseRefusesWhatCouldBeReadInTwoWays(t *testing.T) {
	for _, text := range []string{"", ":", "1:", ":1", "1:2:3", "-1", "+1", "1.0", "0x1", "1_0", " 1", "1 ", "4294967296", "0:4294967296", "multitenant"} {
		if id, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", text, id)
		} else if !strings.Contains(err.Error(), "0 to 4294967295") {
			t.Errorf("Parse(%q): %q does not say what is allowed", text, err)
		}
	}
}

func TestTextOfAnIDIsParsedToTheSame(t *testing.T) {
	for _, id := range []ID{{}, {1, 0}, {0, 1}, {4294967295, 4294967295}} {
		var again ID
		text, err := id.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(text); err != nil || again != id {
			t.Errorf("%v became %q and then %v, %v", id, text, again, err)
		}
	}
}
