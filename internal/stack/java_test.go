package stack

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestJavaReleaseIsReadFromItsVersion(t *testing.T) {
	for text, want := range map[string]int{
		`openjdk version "17.0.15" 2025-04-15`: 17,
		`openjdk version "21" 2023-09-19`:      21,
		`java version "1.8.0_402"`:             1,
		`openjdk version "25-ea" 2025-09-16`:   25,
		"command not found":                    0,
	} {
		if got := javaRelease(text); got != want {
			t.Errorf("%q is release %d, want %d", text, got, want)
		}
	}
}

func TestWhoMayNotInstallJavaIsToldWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no java, no apt-get
	t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "cache"))
	_, err := Install(t.Context(), KafkaJars, nil)
	if err == nil || !strings.Contains(err.Error(), "it lacks the packages openjdk-17-jre-headless maven") {
		t.Fatalf("Install: %v", err)
	}
}
