package tenant

import (
	"context"
	"errors"
)

// Why a request is nobody's. What Access.Identify returns wraps one of them. None says which part of a credential was wrong.
var (
	// ErrUnnamed: the request names no tenant, or two that differ, or one that cannot be.
	ErrUnnamed = errors.New("no tenant")
	// ErrUnauthorized: there is no credential, or none that is known.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden: the credential is known and may not write for this tenant.
	ErrForbidden = errors.New("forbidden")
	// ErrTooManyFailures: too many wrong credentials have come from the address; this one was not looked at.
	ErrTooManyFailures = errors.New("too many failed attempts")
	// ErrUnavailable: who it is cannot be told now, and may be later.
	ErrUnavailable = errors.New("tenants cannot be looked up")
)

// A Sender is who sends a request, as far as that is known before its body is read.
type Sender struct {
	// Credential names the credential in logs and metrics. It is never a secret; empty where none is asked for.
	Credential string
	// Tenant is whose samples the request brings; nil when the data says it.
	Tenant *Profile
	// Mapping says how the data names tenants. It is nil for everybody who is not trusted to name them.
	Mapping Mapping
}

// A Mapping finds the tenant of a series in a trusted sender's data. It is safe for concurrent use.
type Mapping interface {
	// Labels are the names of one label, or of two: account and project.
	Labels() []string
	// Find returns the tenant for the values of Labels; a value is empty when the series does not have the label. The error wraps
	// ErrUnnamed (the series is refused), ErrForbidden or ErrUnavailable.
	Find(ctx context.Context, values ...[]byte) (*Profile, error)
}
