// Ociserve serves an OCI registry.
//
// Usage:
//
//	ociserve [flags]
//
// It listens on localhost:5000 and keeps everything in memory. It serves until
// it is interrupted, and then lets the requests that are under way finish. The
// requests are logged to standard error.
//
// The flags are:
//
//	-addr host:port
//		the address to listen on; port 0 picks a free one (default localhost:5000)
//	-mem
//		serve memory, which is the default
//	-sparse
//		accept manifests whose blobs are absent, and deletes of blobs in use
//	-immutable
//		refuse to move or delete tags
//	-max-bytes n
//		refuse pushes beyond n bytes in all (default no limit)
//	-quiet
//		do not log requests, only problems
//
// The exit status is 0 after an interrupt, 1 when serving failed, and 2 for
// flags that make no sense.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// drainTime is how long requests may take to finish after an interrupt.
const drainTime = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second interrupt finds no handler, and ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "ociserve: %v\nRun 'ociserve -help' for usage.\n", err)
		return 2
	}
	if err := serve(ctx, cfg, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "ociserve: %v\n", err)
		return 1
	}
	return 0
}

// config is what the flags say.
type config struct {
	addr  string
	mem   ocimem.Config
	quiet bool
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var cfg config
	flags := flag.NewFlagSet("ociserve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&cfg.addr, "addr", "localhost:5000", "the `host:port` to listen on; port 0 picks a free one")
	flags.Bool("mem", true, "serve memory, which is the default")
	flags.BoolVar(&cfg.mem.Sparse, "sparse", false, "accept manifests whose blobs are absent, and deletes of blobs in use")
	flags.BoolVar(&cfg.mem.ImmutableTags, "immutable", false, "refuse to move or delete tags")
	flags.Int64Var(&cfg.mem.MaxBytes, "max-bytes", 0, "refuse pushes beyond `n` bytes in all; 0 is no limit")
	flags.BoolVar(&cfg.quiet, "quiet", false, "do not log requests, only problems")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stderr, "Ociserve serves an OCI registry from memory.\n\nUsage: ociserve [flags]")
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return cfg, err
	case err != nil:
		return cfg, err
	case flags.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case cfg.mem.MaxBytes < 0:
		return cfg, errors.New("-max-bytes cannot be negative")
	case flags.Lookup("mem").Value.String() == "false":
		return cfg, errors.New("-mem=false leaves nothing to serve")
	}
	if _, _, err := net.SplitHostPort(cfg.addr); err != nil {
		return cfg, fmt.Errorf("-addr %q is not of the form host:port", cfg.addr)
	}
	return cfg, nil
}

// backend returns the registry to serve, and what to call it.
func (cfg config) backend() (ociregistry.Interface, string) {
	return ocimem.NewWithConfig(&cfg.mem), "memory"
}

// serve serves until ctx ends.
func serve(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	listener, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is in use by another program; choose another address with -addr", cfg.addr)
		}
		return err
	}
	// Every request has its record; the handler tells of problems alone.
	problems := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	requests := problems
	if !cfg.quiet {
		requests = slog.New(slog.NewTextHandler(stderr, nil))
	}
	backend, name := cfg.backend()
	server := &http.Server{
		Handler:           logRequests(ociserver.New(backend, &ociserver.Options{Logger: problems}), requests),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(problems.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	greet(stdout, name, visibleAddr(cfg.addr, listener.Addr()))
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	requests.Info("shutting down")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		server.Close()
		return fmt.Errorf("requests were cut off at shutdown: %w", err)
	}
	return nil
}

// visibleAddr returns the address for clients: the host that was asked for, and
// the port that was given.
func visibleAddr(asked string, bound net.Addr) string {
	host, _, _ := net.SplitHostPort(asked)
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(bound.String())
	return net.JoinHostPort(host, port)
}

func greet(w io.Writer, name, addr string) {
	fmt.Fprintf(w, `Serving %[1]s on http://%[2]s/v2/

Push to it with any of:
  crane copy alpine:latest %[2]s/alpine:latest
  skopeo copy --dest-tls-verify=false docker://alpine:latest docker://%[2]s/alpine:latest
  regctl registry set --tls disabled %[2]s && regctl image copy alpine:latest %[2]s/alpine:latest
  oras push --plain-http %[2]s/notes:v1 README.md
  docker tag alpine:latest %[2]s/alpine:latest && docker push %[2]s/alpine:latest
List what it has:
  curl http://%[2]s/v2/_catalog

`, name, addr)
}
