// Ociserve serves an OCI registry.
//
// Usage:
//
//	ociserve [flags]
//	ociserve verify [-repair] [-sparse] directory
//
// It listens on localhost:5000, and serves what -dir, -layout, -proxy, -cache or
// -mem say.
// It serves until it is interrupted, and then lets the requests that are under way
// finish. The requests are logged to standard error.
//
// The flags that say what to serve are:
//
//	-mem
//		serve memory, which is the default: all is gone when the program ends
//	-dir path
//		serve a directory, which has an OCI image layout for each repository
//		and is made if it is not there
//	-layout path
//		serve one directory with an OCI image layout as the only repository
//	-repo name
//		the repository that -layout serves (default the last element of its path)
//	-proxy host
//		serve what another registry has, which may have a port: each request
//		becomes requests to it, and nothing is kept here, upload sessions
//		included. http://host is a registry without TLS
//	-cache host
//		serve what another registry has, and keep what was pulled, in memory or
//		in -dir. Tags are looked up there each time; when it does not answer
//		within 10 seconds, what is kept is served. Pushes and deletes are refused
//	-whole platforms
//		let -cache fetch all of an image, with its signatures, when its manifest
//		is asked for: of several platforms those of a list, such as
//		linux/amd64,linux/arm64, or "all"
//	-mirror file
//		rules for what -cache is to serve from other places, and what it is to
//		keep up to date: see below
//
// A proxy and a cache use the credentials that Docker and Podman keep for the
// host, for whoever can reach them.
//
// The flags for memory and directories are:
//
//	-sparse
//		accept manifests whose blobs are absent, and deletes of blobs in use
//	-immutable
//		refuse to move or delete tags
//	-max-bytes n
//		refuse pushes beyond n bytes in all, or with -cache let go of what was
//		not read for longest (default no limit)
//	-max-uploads n
//		refuse to begin more than n uploads at a time (default 100000); a negative
//		number is no limit
//
// The flags for directories are the following, the first also for a proxy:
//
//	-read-only
//		refuse all pushes and deletes, and write nothing
//	-no-sync
//		do not wait for the disk: faster, but a power cut may lose what was pushed
//	-verify-reads
//		compare blobs with their digests when they are first read, so that none
//		that is damaged is served as a whole
//
// The other flags are:
//
//	-addr host:port
//		the address to listen on; port 0 picks a free one (default localhost:5000)
//	-allow-origin origin
//		let web pages of an origin, such as https://ui.example.com, use the
//		registry from a browser; * is for those of all. It can be repeated
//	-quiet
//		do not log requests, only problems
//
// # Rules
//
// The file that -mirror names is a JSON object such as this one:
//
//	{
//		"interval": "30m",
//		"sources": [
//			{
//				"registry": "registry.example",
//				"stall": "2m",
//				"rules": [{
//					"repositories": "team/**",
//					"destination": "mirror",
//					"tags": {"semver": true, "newest": 10},
//					"platforms": ["linux/amd64"],
//					"dropOthers": true,
//					"skipBrokenReferrers": true
//				}]
//			},
//			{
//				"onDemand": true,
//				"rules": [{"repositories": "library/", "tags": {"match": "^v"}, "onlySigned": true}]
//			}
//		]
//	}
//
// Each source is a registry, written as for -cache; without one it is that which
// is cached. It is given up for a while when nothing came from it for the time that
// stall says, five minutes if it is not given and never if it is negative, and delays
// no other source. A field that is unknown is an error.
//
// The rules of a source are those of ocicopy.Rule, of which the first that matches a
// repository counts. They have these fields, of which the first must be given:
//
//	repositories
//		a pattern of names: * is anything within an element, and ** any number of
//		elements; a slash at the end is short for /**, one at the beginning says nothing
//	destination
//		is put before the name here, with a slash between
//	strip
//		true takes away what the pattern has before its first wildcard
//	tags
//		an object that chooses tags: match is a regular expression, semver true is
//		for versions (1.0 and v1 are some too), newest is how many of the highest
//	platforms
//		a list such as ["linux/amd64", "linux/arm/v7"] of those to copy
//	dropOthers
//		true makes new indexes, with other digests, of those platforms alone
//	onlySigned, signatureTypes
//		true leaves out what has no signature, of these types if they are given
//	withoutReferrers
//		true leaves out signatures and all else that refers to images
//	skipBrokenReferrers
//		true copies images without those of their signatures that cannot be read in
//		full, and says so in the log; otherwise such an image is not copied
//	delete
//		true deletes tags here that are gone at the source
//
// What the rules choose is copied when the program starts and then at each interval,
// which is an hour if it is not given, and so is there before it is asked for; but
// what is onDemand is fetched and kept when it is asked for. A repository that a
// rule leads to has the tags that the rule chooses and comes from its source alone
// (newest counts for copies only, and so do platforms without dropOthers). Other
// repositories come from the registry that is cached.
//
// What was copied counts for -max-bytes when it is read.
//
// # Verification
//
// Verify reads all that a directory has, as -dir or -layout serve it, and prints what
// is wrong: content that is not what its digest says, or is missing, and what cannot
// be read. Nothing is changed, and the directory may be served meanwhile. With
// -repair, what is damaged is moved to .ocifs/damaged in the directory, where nothing
// reads it, so that the next push, or the next pull through a cache, brings it anew;
// an index.json that is damaged, or gone, is made from the manifests that are there,
// without their tags. Content that is missing stays so. With -sparse it is not told
// of, if manifests name it: the directory of a cache has not all.
//
// Its exit status is 0 if nothing is wrong any more, and 1 if something is left.
//
// # Exit status
//
// The exit status is 0 after an interrupt, 1 when serving failed or a directory
// could not be brought up to date at the end, and 2 for flags that make no sense.
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
	if len(args) > 0 && args[0] == "verify" {
		return runVerify(ctx, args[1:], stdout, stderr)
	}
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

// serve serves until ctx ends.
func serve(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	// Every request has its record; the handler tells of problems alone.
	problems := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	requests := problems
	if !cfg.quiet {
		requests = slog.New(slog.NewTextHandler(stderr, nil))
	}
	listener, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is in use by another program; choose another address with -addr", cfg.addr)
		}
		return err
	}
	backend, err := cfg.open(problems, requests)
	if err != nil {
		listener.Close()
		return err
	}
	server := &http.Server{
		Handler: logRequests(ociserver.New(backend, &ociserver.Options{
			Logger:         problems,
			AllowedOrigins: cfg.allowedOrigins,
		}), requests),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(problems.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	greet(stdout, cfg, visibleAddr(cfg.addr, listener.Addr()))
	select {
	case err = <-served:
	case <-ctx.Done():
		requests.Info("shutting down")
		err = drain(server)
	}
	if closeErr := backend.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("closing the registry: %w", closeErr))
	}
	return err
}

// drain lets the requests that are under way finish.
func drain(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
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

// greet says what is served and where, and how to use it.
func greet(w io.Writer, cfg config, addr string) {
	fmt.Fprintf(w, "Serving %s on http://%s/v2/\n\n", cfg.what(), addr)
	if cfg.origin.host != "" {
		fmt.Fprintf(w, "Pull through it, by the names that repositories have there:\n  crane pull %s/REPOSITORY:TAG image.tar\n", addr)
	} else if !cfg.disk.ReadOnly {
		repo := cfg.repo
		if repo == "" {
			repo = "alpine"
		}
		fmt.Fprintf(w, `Push to it with any of:
  crane copy alpine:latest %[1]s/%[2]s:latest
  skopeo copy --dest-tls-verify=false docker://alpine:latest docker://%[1]s/%[2]s:latest
  regctl registry set --tls disabled %[1]s && regctl image copy alpine:latest %[1]s/%[2]s:latest
  oras push --plain-http %[1]s/%[2]s:notes README.md
  docker tag alpine:latest %[1]s/%[2]s:latest && docker push %[1]s/%[2]s:latest
`, addr, repo)
	}
	fmt.Fprintf(w, "List what it has:\n  curl http://%s/v2/_catalog\n\n", addr)
}
