package tenant

import "errors"

// Hidden is an error that tells whoever sends one thing and the log more: its text is that of told; Cause returns cause. It wraps both.
func Hidden(told, cause error) error { return &hidden{told: told, cause: cause} }

// Cause is what the log is to say of err: what Hidden keeps from the sender, or err itself when nothing is kept.
func Cause(err error) error {
	var h *hidden
	if errors.As(err, &h) {
		return h.cause
	}
	return err
}

type hidden struct{ told, cause error }

func (h *hidden) Error() string { return h.told.Error() }

func (h *hidden) Unwrap() []error { return []error{h.told, h.cause} }
