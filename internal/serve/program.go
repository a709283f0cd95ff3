// Package serve is the program ociserve. Its documentation is that of its command.
package serve

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociserver"
)

// drainTime is the time in which requests must finish after an interrupt.
const drainTime = 30 * time.Second

// Main is the main function of the program, or of one with more kinds of storage.
func Main(storages ...Storage) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second interrupt finds no handler, and ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, os.Args[1:], os.Stdout, os.Stderr, storages...))
}

// Run is the program without its process, until ctx ends. It returns the exit status.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer, storages ...Storage) int {
	if len(args) > 0 && args[0] == "verify" {
		return runVerify(ctx, args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == "gc" {
		return runGC(ctx, args[1:], stdout, stderr, storages)
	}
	cfg, err := parseFlags(args, stderr, storages...)
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

// serve serves until ctx ends.
func serve(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	problems, requests := cfg.site.loggers(stderr)
	listener, err := cfg.site.listen(problems)
	if err != nil {
		return err
	}
	backend, err := cfg.open(ctx, problems, requests)
	if err != nil {
		listener.Close()
		return err
	}
	limited, err := cfg.quotas.over(backend.Registry)
	if err != nil {
		listener.Close()
		return errors.Join(err, backend.Close())
	}
	stopCollecting := func() {}
	if cfg.gcInterval > 0 {
		stopCollecting = collectInTurns(backend.Registry.(ocigc.Collector), cfg.gc, cfg.gcInterval, problems, requests)
	}
	opts := cfg.site.options(problems) // every request is logged, so the handler logs only problems
	opts.BlobRedirect = backend.Redirect
	server := cfg.site.server(ociserver.New(limited, opts), problems, requests)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	greet(stdout, cfg, listener.Addr())
	select {
	case err = <-served:
	case <-ctx.Done():
		requests.Info("shutting down")
		err = drain(server)
	}
	stopCollecting()
	if closeErr := backend.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("closing the registry: %w", closeErr))
	}
	return err
}

// drain lets the requests in progress finish.
func drain(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		server.Close()
		return fmt.Errorf("requests were cut off at shutdown: %w", err)
	}
	return nil
}

// greet prints what is served and where, and how to use it.
func greet(w io.Writer, cfg config, bound net.Addr) {
	url, addr := cfg.site.url(bound), cfg.site.visible(bound)
	fmt.Fprintf(w, "Serving %s on %s\n\n", cfg.what(), url)
	if cfg.origin.host != "" {
		fmt.Fprintf(w, "Pull through it, by the names that repositories have there:\n  crane pull %s/REPOSITORY:TAG image.tar\n", addr)
	} else if !cfg.disk.ReadOnly {
		greetPusher(w, addr, cmp.Or(cfg.repo, "alpine"), cfg.site.cert == "")
	}
	fmt.Fprintf(w, "List what it has:\n  curl %s_catalog\n\n", url)
}

// greetPusher prints how to push to a repository.
func greetPusher(w io.Writer, addr, repo string, plain bool) {
	var skopeo, regctl, oras string
	if plain {
		skopeo, regctl, oras = "--dest-tls-verify=false ", "regctl registry set --tls disabled "+addr+" && ", "--plain-http "
	}
	fmt.Fprintf(w, `Push to it with any of:
  crane copy alpine:latest %[1]s/%[2]s:latest
  skopeo copy %[3]sdocker://alpine:latest docker://%[1]s/%[2]s:latest
  %[4]sregctl image copy alpine:latest %[1]s/%[2]s:latest
  oras push %[5]s%[1]s/%[2]s:notes README.md
  docker tag alpine:latest %[1]s/%[2]s:latest && docker push %[1]s/%[2]s:latest
`, addr, repo, skopeo, regctl, oras)
}
