package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestCompareMeasuresEveryWay(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers; left out with -short")
	}
	var out, errOut bytes.Buffer
	code := run(t.Context(), strings.Fields("compare -ways=direct,vmagent,packed -tenants=200 -rounds=1 -passes=1 -rate=0"), &out, &errOut)
	if code != 0 {
		t.Fatal(code, out.String(), errOut.String())
	}
	for _, want := range []string{"1 rounds of 2000 samples", "   direct  ", "  vmagent  ", "   packed  ", "packed by ingestgw costs vminsert ", "take more -tenants or -passes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

func TestCompareSaysWhatItCannotDo(t *testing.T) {
	for _, args := range []string{"compare -ways=vmagent", "compare -rounds=0", "compare -no-such-flag"} {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errOut); code == 0 {
			t.Errorf("%s: exit status 0", args)
		}
	}
}
