package patient

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
)

// hungUp is a connection of which the other side has sent something and hung up.
type hungUp struct {
	net.Conn
	sent io.Reader
}

func (h hungUp) Read(p []byte) (int, error)  { return h.sent.Read(p) }
func (h hungUp) Write(p []byte) (int, error) { return 0, io.ErrClosedPipe }
func (h hungUp) Close() error                { return nil }

func TestWritesFailWhenNothingMoreCanBeRead(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c net.Conn){
		"read to the end": func(c net.Conn) { io.ReadAll(c) },
		"closed":          func(c net.Conn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newConn(hungUp{sent: strings.NewReader("answer")})
				failed := make(chan error, 1)
				go func() {
					_, err := c.Write([]byte("request"))
					failed <- err
				}()
				got := make([]byte, len("answer"))
				_, err := io.ReadFull(c, got)
				qt.Check(t, qt.IsNil(err))
				synctest.Wait()
				qt.Check(t, qt.HasLen(failed, 0))
				end(c)
				qt.Check(t, qt.ErrorIs(<-failed, io.ErrClosedPipe))
			})
		})
	}
}
