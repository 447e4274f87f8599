// Package tenant says who a request belongs to.
package tenant

import (
	"fmt"
	"strconv"
	"strings"
)

// ID names a tenant the way VictoriaMetrics does: an account and a project within it, both any uint32. The zero ID is 0:0,
// the tenant that VictoriaMetrics takes for "none given".
type ID struct {
	Account uint32
	Project uint32
}

// Parse reads "<account>" or "<account>:<project>", decimal without sign, as it stands in vminsert's URLs
// (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#url-format). A missing project is 0.
func Parse(s string) (ID, error) {
	account, project, both := strings.Cut(s, ":")
	a, err := parseNumber(account)
	if err != nil {
		return ID{}, fmt.Errorf("tenant %q: account: %w", s, err)
	}
	if !both {
		return ID{Account: a}, nil
	}
	p, err := parseNumber(project)
	if err != nil {
		return ID{}, fmt.Errorf("tenant %q: project: %w", s, err)
	}
	return ID{Account: a, Project: p}, nil
}

func parseNumber(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("want a number from 0 to 4294967295, got %q", s)
	}
	return uint32(n), nil
}

// String is "<account>:<project>", also when the project is 0, so that one tenant has one spelling in logs, URLs and metrics.
func (id ID) String() string {
	return string(id.AppendTo(make([]byte, 0, 21)))
}

// AppendTo appends String's text to dst.
func (id ID) AppendTo(dst []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(id.Account), 10)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(id.Project), 10)
}

// UnmarshalText lets settings hold an ID.
func (id *ID) UnmarshalText(b []byte) error {
	parsed, err := Parse(string(b))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (id ID) MarshalText() ([]byte, error) { return id.AppendTo(nil), nil }
