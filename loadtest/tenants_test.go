package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTenantsSaysWhatItCannotDo(t *testing.T) {
	for _, args := range []string{"tenants -rounds=0", "tenants -modes=guess -tenants=1", "tenants extra"} {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errOut); code == 0 {
			t.Errorf("%s: exit status 0", args)
		}
	}
}
