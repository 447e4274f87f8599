package credentials

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
)

// PublicKeys is a File that holds PEM blocks: public keys (PUBLIC KEY, RSA PUBLIC KEY) and certificates, whose keys are taken
// without looking at anything else in them. There is at least one. setting and name are as for Secret.
func PublicKeys(setting, name string, log *slog.Logger) *File[[]crypto.PublicKey] {
	return watch(setting, readPublicKeys, log, name)
}

func readPublicKeys(names []string) ([]crypto.PublicKey, error) {
	content, err := readFile(names[0], maxKeysFile)
	if err != nil {
		return nil, err
	}
	keys, err := parsePublicKeys(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names[0], err)
	}
	return keys, nil
}

func parsePublicKeys(content []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		key, err := parsePublicKey(block)
		if err != nil {
			return nil, fmt.Errorf("PEM block %d: %w", len(keys)+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM public key or certificate in it")
	}
	return keys, nil
}

func parsePublicKey(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, fmt.Errorf("a %s: want a PUBLIC KEY, an RSA PUBLIC KEY or a CERTIFICATE", block.Type)
}
