package status

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASocketIsTriedAndLeftNowhere(t *testing.T) {
	dir, err := os.MkdirTemp("", "gw") // t.TempDir may be too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := (Config{Socket: filepath.Join(dir, "admin")}).CheckSocket(); err != nil {
		t.Error(err)
	}
	if err := (Config{}).CheckSocket(); err != nil {
		t.Errorf("without one: %v", err)
	}
	long := filepath.Join(dir, strings.Repeat("a", longestSocket))
	if err := (Config{Socket: long}).CheckSocket(); err == nil || !strings.Contains(err.Error(), "the path of a unix socket may have 107") {
		t.Errorf("with a path that nobody could connect to: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
