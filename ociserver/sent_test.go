package ociserver

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"
)

// An error of the connection to the client is not taken for one of the content.
func TestCannotSend_IsTrueForErrorsOfTheConnection(t *testing.T) {
	op := func(name string, err error) error { return &net.OpError{Op: name, Net: "tcp", Err: err} }
	reset := os.NewSyscallError("sendfile", syscall.ECONNRESET)
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"write", op("write", reset), true},
		{"write deadline", op("write", os.ErrDeadlineExceeded), true},
		{"copied", op("readfrom", op("write", reset)), true},
		{"sendfile", op("readfrom", reset), true},
		{"sendfile of a bad disk", op("readfrom", os.NewSyscallError("sendfile", syscall.EIO)), false},
		{"origin reset", op("readfrom", op("read", reset)), false},
		{"origin ended", io.ErrUnexpectedEOF, false},
		{"content", errors.New("wrong digest"), false},
	}
	for _, test := range tests {
		qt.Check(t, qt.Equals(cannotSend(test.err), test.want), qt.Commentf("%s", test.name))
	}
}
