//go:build unix

package remotewrite_test

import (
	"errors"
	"math"
	"syscall"
	"testing"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

func TestScanRefusesMoreThanProtobufAllows(t *testing.T) {
	// Takes no memory; reading a byte of it would end the test.
	msg, err := syscall.Mmap(-1, 0, math.MaxInt32+1, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(msg) }()
	if _, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{}); !errors.Is(err, remotewrite.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}
