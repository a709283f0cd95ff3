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

// maxLogged is how many bytes of a text that may be a client's are logged. No
// path of the API is longer.
const maxLogged = 512

// fail answers the request with err.
func (x *exchange) fail(err error) {
	if path := x.req.URL.Path; path == "/v2" || strings.HasPrefix(path, "/v2/") {
		x.setVersion()
	}
	err = x.explain(err)
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
	x.expect()
	x.begun = true
	switch {
	case x.opts.WriteError != nil:
		x.opts.WriteError(x.w, x.req, err)
	case x.req.Method == http.MethodHead:
		x.w.WriteHeader(status)
	default:
		ociregistry.WriteError(x.w, err) // if it fails, there is nobody to tell
	}
}

// explain gives an error that has neither a code nor a status one that says whose
// fault it is: nobody's here, if the context ended; a remote registry's, if that
// could not be reached, or gave an answer that made no sense.
func (x *exchange) explain(err error) error {
	var coded ociregistry.Error
	var status ociregistry.HTTPError
	switch {
	case errors.As(err, &coded) || errors.As(err, &status):
		return err
	case x.clientGone():
		return ociregistry.NewHTTPError(err, statusClientGone, nil, nil)
	case x.ctx().Err() != nil:
		return ociregistry.NewHTTPError(fmt.Errorf("the request was ended: %w", err), http.StatusServiceUnavailable, nil, nil)
	case !isRemote(err):
		return err
	case isTimeout(err):
		return ociregistry.NewHTTPError(err, http.StatusGatewayTimeout, nil, nil)
	}
	return ociregistry.NewHTTPError(err, http.StatusBadGateway, nil, nil)
}

// isRemote reports whether err is of a call of a remote registry.
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

// setErrorHeaders sets the headers that belong to an error beside its body.
func (x *exchange) setErrorHeaders(err error, status int) {
	switch status {
	case http.StatusUnauthorized:
		x.header().Set("WWW-Authenticate", challengeOf(err))
	case http.StatusMethodNotAllowed:
		allow := "GET, HEAD" // of content that is in use, which cannot be deleted
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

// clientGone reports whether the client ended the request, as far as is known.
func (x *exchange) clientGone() bool { return errors.Is(x.ctx().Err(), context.Canceled) }

func (x *exchange) logFailure(err error, status int, attrs ...slog.Attr) {
	level := slog.LevelInfo
	switch {
	case status == http.StatusRequestTimeout: // which the HTTP server takes for the client's end as well
	case x.clientGone():
		status = statusClientGone
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

// loggable returns s as it may be logged: without the id of an upload, which is
// as good as a password while the upload is open (a short one is none, and may
// be a part of any word), and not as long as a client likes.
func (x *exchange) loggable(s string) string {
	if len(x.UploadID) >= 8 {
		s = strings.ReplaceAll(s, x.UploadID, "…")
	}
	if len(s) > maxLogged {
		s = strings.ToValidUTF8(s[:maxLogged], "") + "…"
	}
	return s
}

// recoverPanic is deferred. It answers for a backend, or a hook, that panicked.
func (x *exchange) recoverPanic() {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	x.log(slog.LevelError, "panic", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	if x.begun {
		panic(http.ErrAbortHandler)
	}
	x.fail(errors.New("internal error"))
}
