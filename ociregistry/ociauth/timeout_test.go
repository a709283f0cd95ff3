package ociauth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// late is a registry whose token server does not answer, or not to the end.
type late struct{ body io.ReadCloser }

func (l late) RoundTrip(req *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: l.body, Request: req}
	if req.URL.Host != "token.test" {
		resp.StatusCode, resp.Body = http.StatusUnauthorized, http.NoBody
		resp.Header.Set("WWW-Authenticate", `Bearer realm="https://token.test/token",service="registry.test"`)
	} else if l.body == nil {
		<-req.Context().Done()
		return nil, req.Context().Err()
	} else {
		resp.Body = unending{req.Context()}
	}
	return resp, nil
}

// unending is a body that has nothing until a context ends.
type unending struct{ ctx context.Context }

func (u unending) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

func (u unending) Close() error { return nil }

func TestTokenServerIsNotWaitedForWithoutBound(t *testing.T) {
	t.Parallel()
	for _, body := range []io.ReadCloser{nil, io.NopCloser(strings.NewReader(""))} {
		for timeout, want := range map[time.Duration]time.Duration{0: 30 * time.Second, time.Second: time.Second, -1: time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				transport := ociauth.NewStdTransport(ociauth.StdTransportParams{Transport: late{body}, TokenTimeout: timeout})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://registry.test/v2/foo/tags/list", nil)
				qt.Assert(t, qt.IsNil(err))
				start := time.Now()
				_, err = transport.RoundTrip(req)
				qt.Check(t, qt.Equals(time.Since(start), want))
				if timeout < 0 { // only the caller's context ends the wait
					qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
					return
				}
				qt.Check(t, qt.ErrorMatches(err, "token from token.test: waited "+want.String()+" .*"))
				qt.Check(t, qt.ErrorIs(err, os.ErrDeadlineExceeded))
				qt.Check(t, qt.IsFalse(errors.Is(err, context.DeadlineExceeded)))
			})
		}
	}
}
