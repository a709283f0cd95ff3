package ociserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// maxLogged is the maximum number of bytes that are logged of a text which a client may
// have written. No path of the API is longer.
const maxLogged = 512

// fail answers the request with err.
func (x *exchange) fail(err error) {
	if path := x.req.URL.Path; path == "/v2" || strings.HasPrefix(path, "/v2/") {
		x.setVersion()
	}
	err = x.classify(err)
	x.failed(err)
	_, status := ociregistry.MarshalError(err)
	x.setErrorHeaders(err, status)
	if hidden := conceal(err, status); hidden != nil {
		x.header().Set("Error-Reference", hidden.reference)
		x.logFailure(err, status, slog.String("reference", hidden.reference))
		err = hidden
	} else {
		x.logFailure(err, status)
	}
	x.boundRest()
	x.extendWriteDeadline()
	x.begun = true
	switch {
	case x.opts.WriteError != nil:
		x.opts.WriteError(x.w, x.req, err)
	case x.req.Method == http.MethodHead:
		x.w.WriteHeader(status)
	default:
		ociregistry.WriteError(x.w, err) // an error would mean that the client has gone away
	}
}

// classify returns err with a status that says who is to blame, unless err already has
// a code or a status. When the context has ended, this side is not to blame. When a
// remote registry could not be reached, or its answer made no sense, that registry is.
func (x *exchange) classify(err error) error {
	var coded ociregistry.Error
	var status ociregistry.HTTPError
	switch {
	case errors.As(err, &coded) || errors.As(err, &status):
		return err
	case x.clientGone():
		return ociregistry.NewHTTPError(err, StatusClientGone, nil, nil)
	case x.ctx().Err() != nil:
		return ociregistry.NewHTTPError(fmt.Errorf("the request was ended: %w", err), http.StatusServiceUnavailable, nil, nil)
	case !isRemote(err):
		return err
	case isTimeout(err):
		return ociregistry.NewHTTPError(err, http.StatusGatewayTimeout, nil, nil)
	}
	return ociregistry.NewHTTPError(err, http.StatusBadGateway, nil, nil)
}

// isRemote reports whether err is the error of a remote registry.
func isRemote(err error) bool {
	for op := (*ociregistry.OpError)(nil); errors.As(err, &op); err = op.Err {
		if op.Registry != "" {
			return true
		}
	}
	return false
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// setErrorHeaders sets the headers that belong to an error.
func (x *exchange) setErrorHeaders(err error, status int) {
	switch status {
	case http.StatusUnauthorized:
		x.header().Set("WWW-Authenticate", Challenge(err))
	case http.StatusMethodNotAllowed:
		allow := "GET, HEAD" // for content that is in use and cannot be deleted
		var methodErr *wire.MethodError
		if errors.As(err, &methodErr) {
			allow = methodErr.Allow
		}
		x.header().Set("Allow", allow)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		var upstream ociregistry.HTTPError
		if errors.As(err, &upstream) && upstream.Response() != nil {
			if after := upstream.Response().Header.Get("Retry-After"); after != "" {
				x.header().Set("Retry-After", after)
			}
		}
	}
}

// clientGone reports whether the client is known to have gone away.
func (x *exchange) clientGone() bool { return errors.Is(x.ctx().Err(), context.Canceled) }

func (x *exchange) logFailure(err error, status int, attrs ...slog.Attr) {
	level := slog.LevelInfo
	switch {
	case status == http.StatusRequestTimeout: // the HTTP server ends the context then too
	case x.clientGone():
		status = StatusClientGone
	case status >= 500:
		level = slog.LevelError
	}
	x.log(level, "request failed", append(attrs, slog.Int("status", status), slog.String("error", x.loggable(err.Error())))...)
}

func (x *exchange) log(level slog.Level, msg string, attrs ...slog.Attr) {
	if !x.opts.Logger.Enabled(x.ctx(), level) {
		return
	}
	path := x.req.URL.Path
	if before, _, ok := strings.Cut(path, "/blobs/uploads/"); ok {
		path = before + "/blobs/uploads/…"
	}
	attrs = append(attrs,
		slog.String("method", x.loggable(x.req.Method)),
		slog.String("path", x.loggable(path)),
		slog.String("remote", x.req.RemoteAddr),
		slog.Duration("duration", time.Since(x.start)))
	x.opts.Logger.LogAttrs(x.ctx(), level, msg, attrs...)
}

// loggable returns s in a form that may be logged. It has no upload id, which is as
// good as a password while the session is open, and its length is bounded. An id of
// fewer than 8 bytes is no secret, and could be a part of any word.
func (x *exchange) loggable(s string) string {
	if len(x.UploadID) >= 8 {
		s = strings.ReplaceAll(s, x.UploadID, "…")
	}
	if len(s) > maxLogged {
		s = strings.ToValidUTF8(s[:maxLogged], "") + "…"
	}
	return s
}

// recoverPanic, which must be deferred, answers the request when the backend or a hook
// panicked.
func (x *exchange) recoverPanic() {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		x.failed(http.ErrAbortHandler)
		panic(v)
	}
	x.log(slog.LevelError, "panic", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	err := ociregistry.NewHTTPError(fmt.Errorf("panic: %v", v), http.StatusInternalServerError, nil, nil)
	if x.begun {
		x.failed(err)
		panic(http.ErrAbortHandler)
	}
	x.fail(err)
}
