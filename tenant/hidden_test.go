package tenant

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestAHiddenCauseIsForTheLogOnly(t *testing.T) {
	cause := fmt.Errorf("dial tcp 10.0.0.1:9590: %w", context.DeadlineExceeded)
	told := fmt.Errorf("%w: try again", ErrUnavailable)
	for name, err := range map[string]error{
		"by itself": Hidden(told, cause),
		"wrapped":   fmt.Errorf("%w", Hidden(told, cause)),
		"joined":    errors.Join(Hidden(told, cause)),
	} {
		if err.Error() != "tenants cannot be looked up: try again" {
			t.Errorf("%s: the sender is told %q", name, err)
		}
		if got := Cause(err); got.Error() != cause.Error() {
			t.Errorf("%s: the log has %q", name, got)
		}
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: it does not wrap both", name)
		}
	}
	if got := Cause(told); got.Error() != told.Error() {
		t.Errorf("without anything hidden the log has %q", got)
	}
	if got := Cause(nil); got != nil {
		t.Errorf("of no error the log has %q", got)
	}
}
