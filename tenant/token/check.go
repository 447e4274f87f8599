package token

import (
	"context"
	"fmt"
)

// Keys says how many keys there are to verify tokens with, those of files and those that are at JWKS_URL now. It changes nothing.
func (v *Verifier) Keys(ctx context.Context) (int, error) {
	n := len(v.keys().files)
	if v.remote == nil {
		return n, nil
	}
	body, err := v.remote.fetch(ctx)
	if err != nil {
		return n, fmt.Errorf("%s_JWKS_URL: %w", prefix, err)
	}
	keys, err := parseKeySet(body, v.algorithms)
	if err != nil {
		return n, fmt.Errorf("%s_JWKS_URL: %w", prefix, err)
	}
	return n + len(keys), nil
}
