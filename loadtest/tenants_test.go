package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTenantsMeasuresPathAndFile(t *testing.T) {
	if testing.Short() {
		t.Skip("starts ingestgw; left out with -short")
	}
	var out, errOut bytes.Buffer
	args := "tenants -tenants=300 -bodies=100 -rounds=1 -requests=200 -connections=8"
	if code := run(t.Context(), strings.Fields(args), &out, &errOut); code != 0 {
		t.Fatal(code, out.String(), errOut.String())
	}
	for _, want := range []string{
		"300 tenants of 10 series of 12 labels, named by path\n", "300 tenants of 10 series of 12 labels, named by file\n",
		"bytes per active tenant", "µs of CPU per sample", "read again, unchanged: ", "read again, with one tenant in a hundred changed: ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

func TestTenantsSaysWhatItCannotDo(t *testing.T) {
	for _, args := range []string{"tenants -rounds=0", "tenants -modes=guess -tenants=1", "tenants extra"} {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errOut); code == 0 {
			t.Errorf("%s: exit status 0", args)
		}
	}
}
