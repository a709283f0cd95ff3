package ociclient_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

// ownContext is a context of another package: deriving a context from it without ending
// that leaves a goroutine.
type ownContext struct {
	context.Context
	done chan struct{}
}

func (c ownContext) Done() <-chan struct{} { return c.done }

func TestReaderThatCannotBeMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := stalling(t, ociclient.Options{Parallel: ociclient.Parallel{Concurrency: 3}}, func(conn net.Conn, req *http.Request) {
			if req.Header.Get("Range") == "" {
				io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
				return
			}
			io.WriteString(conn, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/*\r\nContent-Length: 1\r\n\r\nx")
		})
		_, err := reg.GetBlob(ownContext{ctx, make(chan struct{})}, "foo", contentDigest)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrBlobUnknown))
	}) // fails if a goroutine is left
}

// A Read that another goroutine ends by Close returns the reason, and not the error of a
// context.
func TestReadThatIsClosedTellsSo(t *testing.T) {
	t.Parallel()
	for _, parts := range []int{0, 3} {
		synctest.Test(t, func(t *testing.T) {
			reg := stalling(t, ociclient.Options{Parallel: ociclient.Parallel{Concurrency: parts}}, func(conn net.Conn, req *http.Request) {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
				<-req.Context().Done()
			})
			rd, err := reg.GetBlob(ctx, "foo", contentDigest)
			qt.Assert(t, qt.IsNil(err))
			time.AfterFunc(time.Second, func() { rd.Close() })
			_, err = io.ReadAll(rd)
			qt.Check(t, qt.ErrorMatches(err, ".*the reader is closed"))
			qt.Check(t, qt.IsFalse(errors.Is(err, context.Canceled)))
		})
	}
}

// The same holds for a Read after a Seek, which makes another request.
func TestSeekThatIsClosedTellsSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := stalling(t, ociclient.Options{}, func(conn net.Conn, req *http.Request) {
			if req.Header.Get("Range") == "" {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 21\r\n\r\nx")
			}
			<-req.Context().Done()
		})
		rd, err := reg.GetBlob(ctx, "foo", contentDigest)
		qt.Assert(t, qt.IsNil(err))
		_, err = rd.(io.Seeker).Seek(3, io.SeekStart)
		qt.Assert(t, qt.IsNil(err))
		time.AfterFunc(time.Second, func() { rd.Close() })
		_, err = rd.Read(make([]byte, 1))
		qt.Check(t, qt.ErrorMatches(err, ".*the reader is closed"))
		qt.Check(t, qt.IsFalse(errors.Is(err, context.Canceled)))
	})
}
