package serve

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/seed-40b21970/oci/ociserver"
)

// healthPath answers with status 200 as long as the program serves. Nothing below it is a
// path of a registry, and its requests are not logged.
const healthPath = "/healthz"

// site is how the program is reached, and what it logs.
type site struct {
	addr           string
	cert, key      string // files; empty without TLS
	allowedOrigins []string
	maxUpload      int64
	timeout        time.Duration
	quiet          bool
	logFormat      string
	web            bool   // pages for browsers
	prefix         string // of all paths: empty, or with a slash before it and none behind
}

func (s *site) define(flags *flag.FlagSet) {
	flags.StringVar(&s.addr, "addr", "localhost:5000", "the `host:port` to listen on; port 0 picks a free one; a socket that systemd passes goes first")
	flags.StringVar(&s.cert, "tls-cert", "", "the `file` with the certificate, and those that lead to its root, to serve with TLS; it is read again when it changes")
	flags.StringVar(&s.key, "tls-key", "", "the `file` with the key of the certificate")
	flags.Func("allow-origin", "let web pages of the `origin` use the registry from a browser; * means all origins; can be repeated", s.allowOrigin)
	flags.Int64Var(&s.maxUpload, "upload-max", 0, "refuse blobs of more than `n` bytes; 0 means no limit")
	flags.DurationVar(&s.timeout, "timeout", 5*time.Minute, "end requests whose client neither sends nor reads anything for the `duration`; a negative one means no limit")
	flags.BoolVar(&s.quiet, "quiet", false, "do not log requests, only problems")
	flags.StringVar(&s.prefix, "path-prefix", "", "serve below the `path`, such as /registry, and not at the root of the site")
	flags.BoolVar(&s.web, "web", true, "serve pages for browsers at /")
	flags.StringVar(&s.logFormat, "log-format", "text", "how to log: `text` or json")
}

func (s *site) check() error {
	_, _, err := net.SplitHostPort(s.addr)
	switch {
	case err != nil:
		return fmt.Errorf("-addr %q is not of the form host:port", s.addr)
	case (s.cert == "") != (s.key == ""):
		return errors.New("-tls-cert and -tls-key need each other")
	case s.maxUpload < 0:
		return errors.New("-upload-max cannot be negative")
	case s.timeout == 0:
		return errors.New("-timeout cannot be 0")
	case s.prefix != "" && (s.prefix[0] != '/' || path.Clean(s.prefix) != s.prefix || s.prefix == "/" || (&url.URL{Path: s.prefix}).EscapedPath() != s.prefix):
		return fmt.Errorf("-path-prefix %q is not a path such as /registry", s.prefix)
	case s.logFormat != "text" && s.logFormat != "json":
		return fmt.Errorf("-log-format %q is neither text nor json", s.logFormat)
	}
	return nil
}

// allowOrigin adds an origin in the form of browsers: scheme, host, and the port if it is
// not the default of the scheme.
func (s *site) allowOrigin(value string) error {
	u, err := url.Parse(value)
	if value != "*" && (err != nil || u.Host == "" || u.Scheme+"://"+u.Host != value || strings.ToLower(value) != value) {
		return errors.New("it is not an origin such as https://ui.example.com")
	}
	s.allowedOrigins = append(s.allowedOrigins, value)
	return nil
}

// loggers returns the loggers for problems, and for everything.
func (s *site) loggers(w io.Writer) (problems, all *slog.Logger) {
	make := func(level slog.Level) *slog.Logger {
		opts := &slog.HandlerOptions{Level: level}
		if s.logFormat == "json" {
			return slog.New(slog.NewJSONHandler(w, opts))
		}
		return slog.New(slog.NewTextHandler(w, opts))
	}
	problems = make(slog.LevelWarn)
	if s.quiet {
		return problems, problems
	}
	return problems, make(slog.LevelInfo)
}

// listen returns what to accept connections from.
func (s *site) listen(logger *slog.Logger) (net.Listener, error) {
	var certificate *certificate
	if s.cert != "" {
		var err error
		if certificate, err = newCertificate(s.cert, s.key, logger); err != nil {
			return nil, err
		}
	}
	listener, err := inherited()
	if listener == nil && err == nil {
		listener, err = net.Listen("tcp", s.addr)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another program; choose another address with -addr", s.addr)
	case err != nil:
		return nil, err
	case certificate == nil:
		return listener, nil
	}
	return tls.NewListener(listener, &tls.Config{
		GetCertificate: certificate.get,
		NextProtos:     []string{"h2", "http/1.1"},
	}), nil
}

// server returns a server of h, in HTTP/1.1 and HTTP/2, with or without TLS.
func (s *site) server(h http.Handler, problems, requests *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           withHealth(logRequests(http.StripPrefix(s.prefix, h), requests)),
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: max(s.timeout, 0)},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(problems.Handler(), slog.LevelWarn),
	}
}

// withHealth answers for [healthPath].
func withHealth(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == healthPath && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
			io.WriteString(w, "ok\n")
			return
		}
		h.ServeHTTP(w, req)
	})
}

// options returns what the flags say of the handler.
func (s *site) options(logger *slog.Logger) *ociserver.Options {
	return &ociserver.Options{
		Logger:         logger,
		AllowedOrigins: s.allowedOrigins,
		MaxBlobSize:    s.maxUpload,
		BlobTimeout:    s.timeout,
		AnswerTimeout:  s.timeout,
	}
}

// url returns the URL of the API for clients: with the host of the flag, and the port that
// the system chose.
func (s *site) url(bound net.Addr) string {
	scheme := "http"
	if s.cert != "" {
		scheme = "https"
	}
	return scheme + "://" + s.visible(bound) + s.prefix + "/" + apiPath
}

// visible returns the host, and the port, that clients name. Those of a socket in the file system
// can name any.
func (s *site) visible(bound net.Addr) string {
	if bound.Network() == "unix" {
		return "localhost"
	}
	host, _, _ := net.SplitHostPort(s.addr)
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(bound.String())
	return net.JoinHostPort(host, port)
}
