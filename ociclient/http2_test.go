package ociclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/pipes"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

// overHTTP2 returns a client of a server in memory, over HTTP/2 and a single connection. It
// is for a bubble of synctest, and leaves no goroutines there.
func overHTTP2(t *testing.T, opts ociclient.Options, serve http.HandlerFunc) ociregistry.Interface {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	network := pipes.New()
	var dialled atomic.Bool
	srv := &http.Server{Handler: serve, Protocols: &protocols}
	go srv.Serve(network)
	transport := &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, kind, address string) (net.Conn, error) {
			if dialled.Swap(true) {
				return nil, errors.New("there is a connection already")
			}
			return network.Dial(ctx, kind, address)
		},
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		srv.Close()
		synctest.Wait()
	})
	opts.Transport, opts.Insecure = transport, true
	reg, err := ociclient.New("registry.test", &opts)
	qt.Assert(t, qt.IsNil(err))
	return reg
}

// Over HTTP/2, requests share a connection, which stays open when one of them ends.
func TestWaitsEndOverHTTP2(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var from sync.Map
		reg := overHTTP2(t, ociclient.Options{Retry: ociclient.RetryPolicy{Attempts: 2, Wait: 1}}, func(w http.ResponseWriter, req *http.Request) {
			from.Store(req.Proto, true)
			switch {
			case req.Method == http.MethodGet && req.Header.Get("Range") == "":
				w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				io.WriteString(w, content[:10])
				http.NewResponseController(w).Flush()
			case req.Header.Get("Range") == "bytes=10-20":
				w.Header().Set("Content-Range", "bytes 10-20/21")
				w.WriteHeader(http.StatusPartialContent)
				io.WriteString(w, content[10:])
				return
			}
			<-req.Context().Done()
		})
		start := time.Now()
		wantTimeout(t, resolveBlob(reg), "30s for registry.test to answer")
		qt.Check(t, qt.Equals(time.Since(start).Round(time.Second), time.Minute)) // of two attempts
		start = time.Now()
		wantBlob(t, reg, content)
		qt.Check(t, qt.Equals(time.Since(start).Round(time.Second), time.Minute))
		from.Range(func(protocol, _ any) bool { return qt.Check(t, qt.Equals(protocol, any("HTTP/2.0"))) })
	})
}
