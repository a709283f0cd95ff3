package ociclient

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// logRequest logs a request and its outcome. It omits headers and queries, which can
// contain credentials.
func (c *client) logRequest(req *http.Request, resp *http.Response, err error, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("method", req.Method),
		slog.String("host", req.URL.Host),
		slog.String("path", loggablePath(req.URL)),
		slog.Duration("duration", took),
	}
	if rng := req.Header.Get("Range"); rng != "" {
		attrs = append(attrs, slog.String("range", rng))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	} else {
		attrs = append(attrs, slog.Int("status", resp.StatusCode))
	}
	c.opts.Logger.LogAttrs(req.Context(), slog.LevelDebug, "request", attrs...)
}

// loggablePath returns a path without the id of an upload: anybody who knows the id can
// write to the upload.
func loggablePath(u *url.URL) string {
	for _, uploads := range []string{"/blobs/uploads/", "/blobs/upload/"} {
		if before, id, ok := strings.Cut(u.Path, uploads); ok && id != "" {
			return before + uploads + "…"
		}
	}
	if !strings.HasPrefix(u.Path, "/v2/") {
		return "…" // its form is unknown
	}
	return u.Path
}
