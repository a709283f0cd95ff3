package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// statusClientGone is the logged status of a request whose client did not wait for the
// answer.
const statusClientGone = 499

// logRequests logs each request when its answer has been sent or cut off.
func logRequests(h http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			cutOff := recover()
			failed := cutOff != nil || rec.status >= 400 && rec.status != http.StatusRequestTimeout
			if failed && errors.Is(req.Context().Err(), context.Canceled) {
				rec.status = statusClientGone
			}
			attrs := []slog.Attr{
				slog.String("method", loggable(req.Method)),
				slog.String("path", loggable(withoutUploadID(req.URL.Path))),
				slog.String("query", loggable(req.URL.RawQuery)),
				slog.Int("status", rec.status),
				slog.Int64("bytes", rec.bytes),
				slog.Duration("duration", time.Since(start).Round(time.Microsecond)),
				slog.String("remote", req.RemoteAddr),
				slog.String("agent", loggable(req.UserAgent())),
			}
			if cutOff != nil {
				attrs = append(attrs, slog.Bool("cutoff", true))
			}
			logger.LogAttrs(req.Context(), slog.LevelInfo, "request", attrs...)
			if cutOff != nil {
				panic(cutOff)
			}
		}()
		h.ServeHTTP(rec, req)
	})
}

// withoutUploadID returns a path without the id of an upload session, because everyone who
// knows the id can write to the session.
func withoutUploadID(path string) string {
	if before, id, ok := strings.Cut(path, "/blobs/uploads/"); ok && id != "" {
		return before + "/blobs/uploads/…"
	}
	return path
}

// loggable returns s, shortened to a length that is suitable for a log.
func loggable(s string) string {
	if len(s) > 512 {
		return strings.ToValidUTF8(s[:512], "") + "…"
	}
	return s
}

// recorder records the status and the number of bytes of an answer. It passes on ReadFrom
// and WriteString, so that files and manifests in memory are sent without being copied.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

func (r *recorder) WriteString(s string) (int, error) {
	n, err := io.WriteString(r.ResponseWriter, s)
	r.bytes += int64(n)
	return n, err
}

func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(r.ResponseWriter, src)
	r.bytes += n
	return n, err
}
