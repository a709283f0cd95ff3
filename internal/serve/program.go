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
	"strings"
	"syscall"
	"time"

	"github.com/seed-40b21970/oci/ociserver"
)

// drainTime is the time in which requests must finish after an interrupt.
const drainTime = 30 * time.Second

// Program is the program, or one that can do more.
type Program struct {
	Storages []Storage // beside memory and directories
	Access   *Access   // if not nil, who may do what; otherwise, everyone may do everything
}

// Main is the main function of the program.
func (p Program) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second interrupt finds no handler, and ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(p.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Run is the program without its process, until ctx ends. It returns the exit status.
func (p Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "verify" {
		return runVerify(ctx, args[1:], stdout, stderr, p.Storages)
	}
	if len(args) > 0 && args[0] == "gc" {
		return runGC(ctx, args[1:], stdout, stderr, p.Storages)
	}
	cfg, err := p.parseFlags(args, stderr)
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
	authorize, err := cfg.access.open(problems)
	if err != nil {
		return err
	}
	listener, err := cfg.site.listen(problems)
	if err != nil {
		return err
	}
	backend, err := cfg.open(ctx, problems, requests)
	if err != nil {
		listener.Close()
		return err
	}
	stopCollecting := func() {}
	if cfg.gcInterval > 0 {
		stopCollecting = collectInTurns(backend.collectors, cfg.gc, cfg.gcInterval, problems, requests)
	}
	opts := cfg.site.options(problems) // every request is logged, so the handler logs only problems
	opts.Authorize = authorize
	opts.BlobRedirect = backend.Redirect
	if len(backend.namespaces) > 0 {
		opts.Namespace = backend.namespace
	}
	handler := cfg.withPages(ociserver.New(backend, opts), backend, authorize, problems)
	server := cfg.site.server(handler, problems, requests)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	greet(stdout, cfg, listener.Addr(), authorize != nil)
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

// greet prints what is served and where, and how to use it. Clients that may not do everything
// without a user must log in.
func greet(w io.Writer, cfg config, bound net.Addr, users bool) {
	url, addr := cfg.site.url(bound), cfg.site.visible(bound)
	socket, curl := "", "curl "
	if bound.Network() == "unix" {
		socket = bound.String()
		curl += "--unix-socket " + socket + " "
	}
	if users {
		curl += "-u USER "
	}
	fmt.Fprintf(w, "Serving %s on %s\n", cfg.what(), cmp.Or(socket, url))
	for _, r := range cfg.routes {
		fmt.Fprintf(w, "  %s/ from %s\n", r.key, r.what())
	}
	for _, ns := range cfg.namespaces {
		fmt.Fprintf(w, "  ?ns=%s from %s\n", ns.key, ns.what())
	}
	fmt.Fprintln(w)
	if socket == "" { // which few clients can use
		greetClients(w, cfg, addr, users)
	}
	fmt.Fprintf(w, "List what it has:\n  %s%s_catalog\n", curl, url)
	if cfg.site.web && socket == "" {
		fmt.Fprintf(w, "Look at it with a browser:\n  %s\n", strings.TrimSuffix(url, apiPath))
	}
	fmt.Fprintln(w)
}

// greetClients prints how to use what is served at an address with clients of registries.
func greetClients(w io.Writer, cfg config, addr string, users bool) {
	if users {
		fmt.Fprintf(w, "Log in to it as one of its users:\n  docker login %s\n", addr)
	}
	if cfg.origin.host != "" {
		fmt.Fprintf(w, "Pull through it, by the names that repositories have there:\n  crane pull %s/REPOSITORY:TAG image.tar\n", addr)
	} else if !cfg.onlyRoutes && !cfg.disk.ReadOnly {
		greetPusher(w, addr, cmp.Or(cfg.repo, "alpine"), cfg.site.cert == "")
	}
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
