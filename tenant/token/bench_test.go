package token

import (
	"testing"

	"github.com/ingestgw/ingestgw/tenant/token/tokentest"
)

func BenchmarkVerifyATokenThatIsRemembered(b *testing.B) {
	k := tokentest.NewKey(b, "", "RS256")
	v := with(b, k, nil)
	raw := k.Sign(b, tokentest.For(1, 0))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyANewToken(b *testing.B) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		b.Run(algorithm, func(b *testing.B) {
			k := tokentest.NewKey(b, "", algorithm)
			v := with(b, k, nil)
			raw := k.Sign(b, tokentest.For(1, 0))
			b.ReportAllocs()
			for b.Loop() {
				v.grants.Purge()
				if _, err := v.Verify(b.Context(), raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
