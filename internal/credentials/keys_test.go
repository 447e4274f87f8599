package credentials

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
)

func TestPublicKeysAreReadFromAllFormsOfPEM(t *testing.T) {
	one, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(&two.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &two.PublicKey, two)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return "a comment\n" + string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkcs1 := block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&one.PublicKey))
	all := pkcs1 + block("PUBLIC KEY", pkix) + block("CERTIFICATE", cert)
	path := filepath.Join(t.TempDir(), "keys")
	write(t, path, all)
	f := PublicKeys("INGESTGW_KEYS_FILE", path, slog.New(slog.DiscardHandler))
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	if keys := f.Get(); len(keys) != 3 || !one.PublicKey.Equal(keys[0]) || !two.PublicKey.Equal(keys[1]) || !two.PublicKey.Equal(keys[2]) {
		t.Errorf("%d keys", len(keys))
	}
	for name, content := range map[string]string{
		"nothing":            "",
		"no PEM":             "ssh-ed25519 AAAA",
		"a private key":      all + block("EC PRIVATE KEY", pkix),
		"another form":       block("PUBLIC KEY", x509.MarshalPKCS1PublicKey(&one.PublicKey)),
		"a torn one":         block("PUBLIC KEY", pkix[:20]),
		"a broken authority": block("CERTIFICATE", cert[:20]),
		"too much":           all + string(bytes.Repeat([]byte("x"), maxKeysFile)),
	} {
		write(t, path, content)
		f := PublicKeys("INGESTGW_KEYS_FILE", path, slog.New(slog.DiscardHandler))
		if err := f.Load(); err == nil || !strings.Contains(err.Error(), "INGESTGW_KEYS_FILE: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
