package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// TestMain removes the program that the tests of the whole process share.
func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// binary is the path of ingestgw, built once per run of the tests.
func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "ingestgw-test-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "ingestgw")
		built.err = stack.GoBuild(context.Background(), ".", ".", built.path)
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// whole marks a test that runs whole processes, for seconds or minutes: -short leaves it out.
func whole(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs whole processes; left out with -short")
	}
}

// eventually tries until it gets no error, and fails with the last one when the time is over. Only for waiting on other processes.
func eventually(t testing.TB, within time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(fmt.Errorf("still so after %s: %w", within, err))
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}
