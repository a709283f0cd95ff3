package pipes_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/pipes"
)

func TestNet_IsThatOfAServerAndItsClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := pipes.New()
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.Host) })}
		ended := make(chan error)
		go func() { ended <- srv.Serve(n) }()
		client := &http.Client{Transport: &http.Transport{DialContext: n.Dial}}
		resp, err := client.Get("http://registry.test/")
		qt.Assert(t, qt.IsNil(err))
		text, err := io.ReadAll(resp.Body)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(text), "registry.test"))
		client.CloseIdleConnections()
		qt.Check(t, qt.IsNil(srv.Close()))
		qt.Check(t, qt.ErrorIs(<-ended, http.ErrServerClosed))
		_, err = n.Dial(t.Context(), "", "")
		qt.Check(t, qt.ErrorIs(err, net.ErrClosed))
	})
}

func TestNet_DialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := pipes.New().Dial(ctx, "", "") // nobody accepts it
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
}
