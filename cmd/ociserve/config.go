package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// config is what the flags say.
type config struct {
	addr           string
	quiet          bool
	allowedOrigins []string

	// What to serve: a directory of layouts, one layout as the repository repo,
	// or what another registry has. If there is none of them, it is memory.
	dir, layout, repo string
	remote            remote

	// With an origin, memory or the directory is a cache of it. The file mirror
	// has rules for some of what it serves.
	origin remote
	mirror string
	whole  whole

	mem  ocimem.Config
	disk ocifs.Options
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var cfg config
	flags := flag.NewFlagSet("ociserve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Bool("mem", true, "serve memory, which is the default: all is gone when the program ends")
	flags.StringVar(&cfg.dir, "dir", "", "serve the directory `path`, which has an OCI image layout for each repository")
	flags.StringVar(&cfg.layout, "layout", "", "serve the OCI image layout in the directory `path` as the only repository")
	flags.StringVar(&cfg.repo, "repo", "", "the `name` of the repository that -layout serves (default the last element of its path)")
	flags.Func("proxy", "serve what the registry at `host` has, and keep nothing; http://host for one without TLS", cfg.remote.set)
	flags.Func("cache", "keep what is pulled from the registry at `host`, in memory or -dir; http://host for one without TLS", cfg.origin.set)
	flags.StringVar(&cfg.mirror, "mirror", "", "the `file` of rules, in JSON, for what -cache is to serve from other places, and to keep up to date")
	flags.Func("whole", "let -cache fetch all of an image when its manifest is asked for: `platforms` of it, such as linux/amd64,linux/arm64, or all", cfg.whole.set)
	flags.BoolVar(&cfg.mem.Sparse, "sparse", false, "accept manifests whose blobs are absent, and deletes of blobs in use")
	flags.BoolVar(&cfg.mem.ImmutableTags, "immutable", false, "refuse to move or delete tags")
	flags.Int64Var(&cfg.mem.MaxBytes, "max-bytes", 0, "refuse pushes beyond `n` bytes in all, or with -cache let go of what was not read for longest; 0 is no limit")
	flags.IntVar(&cfg.mem.MaxUploads, "max-uploads", ocimem.DefaultMaxUploads, "refuse to begin more than `n` uploads at a time; a negative number is no limit")
	flags.BoolVar(&cfg.disk.ReadOnly, "read-only", false, "refuse all pushes and deletes, and write nothing (for -dir, -layout and -proxy)")
	flags.BoolVar(&cfg.disk.NoSync, "no-sync", false, "do not wait for the disk: faster, but a power cut may lose what was pushed (for -dir and -layout)")
	flags.BoolVar(&cfg.disk.VerifyReads, "verify-reads", false, "compare blobs with their digests when they are first read, so that none that is damaged is served as a whole (for -dir and -layout)")
	flags.StringVar(&cfg.addr, "addr", "localhost:5000", "the `host:port` to listen on; port 0 picks a free one")
	flags.Func("allow-origin", "let web pages of the `origin` use the registry from a browser; * is all; can be repeated", cfg.allowOrigin)
	flags.BoolVar(&cfg.quiet, "quiet", false, "do not log requests, only problems")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stderr, "Ociserve serves an OCI registry from memory, a directory or another registry.\n\nUsage: ociserve [flags]")
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return cfg, err
	case err != nil:
		return cfg, err
	case flags.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case cfg.mem.MaxBytes < 0:
		return cfg, errors.New("-max-bytes cannot be negative")
	}
	if err := cfg.choose(flags); err != nil {
		return cfg, err
	}
	if _, _, err := net.SplitHostPort(cfg.addr); err != nil {
		return cfg, fmt.Errorf("-addr %q is not of the form host:port", cfg.addr)
	}
	cfg.disk.Sparse = cfg.mem.Sparse
	cfg.disk.ImmutableTags = cfg.mem.ImmutableTags
	cfg.disk.MaxBytes = cfg.mem.MaxBytes
	cfg.disk.MaxUploads = cfg.mem.MaxUploads
	return cfg, nil
}

// allowOrigin adds an origin, as browsers write them: scheme, host and, if it is
// not the scheme's, port.
func (cfg *config) allowOrigin(value string) error {
	u, err := url.Parse(value)
	if value != "*" && (err != nil || u.Host == "" || u.Scheme+"://"+u.Host != value || strings.ToLower(value) != value) {
		return errors.New("it is not an origin such as https://ui.example.com")
	}
	cfg.allowedOrigins = append(cfg.allowedOrigins, value)
	return nil
}

// choose checks that the flags agree about what to serve, and finds the name of
// a single repository.
func (cfg *config) choose(flags *flag.FlagSet) error {
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	mem := flags.Lookup("mem").Value.String() == "true"
	onDisk := given["dir"] || given["layout"]
	inMemory := !onDisk && !given["proxy"]
	switch {
	case given["dir"] && given["layout"]:
		return errors.New("-dir and -layout exclude each other")
	case given["proxy"] && onDisk:
		return errors.New("-proxy excludes -dir and -layout")
	case given["dir"] && cfg.dir == "":
		return errors.New("-dir needs a path")
	case given["layout"] && cfg.layout == "":
		return errors.New("-layout needs a path")
	case given["mem"] && mem && !inMemory:
		return errors.New("-mem excludes -dir, -layout and -proxy")
	case !mem && inMemory:
		return errors.New("-mem=false leaves nothing to serve")
	case given["proxy"] && (given["sparse"] || given["immutable"] || given["max-bytes"]):
		return errors.New("-sparse, -immutable and -max-bytes are not for -proxy")
	case given["cache"] && (given["proxy"] || given["layout"]):
		return errors.New("-cache excludes -proxy and -layout")
	case given["cache"] && (given["sparse"] || given["immutable"] || given["read-only"]):
		return errors.New("-sparse, -immutable and -read-only are not for -cache")
	case given["mirror"] && !given["cache"]:
		return errors.New("-mirror is for -cache")
	case given["whole"] && !given["cache"]:
		return errors.New("-whole is for -cache")
	case given["mirror"] && cfg.mirror == "":
		return errors.New("-mirror needs a file")
	case given["repo"] && !given["layout"]:
		return errors.New("-repo is for -layout")
	case cfg.disk.ReadOnly && inMemory:
		return errors.New("-read-only is for -dir, -layout and -proxy")
	case cfg.disk.NoSync && !onDisk:
		return errors.New("-no-sync is for -dir and -layout")
	case cfg.disk.VerifyReads && (!onDisk || given["cache"]):
		return errors.New("-verify-reads is for -dir and -layout, without -cache")
	case given["max-uploads"] && (given["proxy"] || given["cache"]):
		return errors.New("-max-uploads is not for -proxy and -cache")
	case cfg.mem.MaxUploads == 0:
		return errors.New("-max-uploads cannot be 0")
	case cfg.disk.NoSync && cfg.disk.ReadOnly:
		return errors.New("-no-sync and -read-only exclude each other")
	case !given["layout"]:
		return nil
	case given["repo"]:
		if !ociref.IsValidRepository(cfg.repo) {
			return fmt.Errorf("-repo %q is not a repository name", cfg.repo)
		}
		return nil
	}
	path, err := filepath.Abs(cfg.layout)
	if err != nil {
		return fmt.Errorf("-layout %q: %w", cfg.layout, err)
	}
	if cfg.repo = filepath.Base(path); !ociref.IsValidRepository(cfg.repo) {
		return fmt.Errorf("-layout %q: %q is not a repository name; give one with -repo", cfg.layout, cfg.repo)
	}
	return nil
}

// whole says which images a cache fetches as a whole.
type whole struct {
	images    bool
	platforms []ocispec.Platform // nil is all
}

// set is the value of a flag.
func (w *whole) set(value string) error {
	w.images, w.platforms = true, nil
	if value == "all" {
		return nil
	}
	for s := range strings.SplitSeq(value, ",") {
		p, err := ocicopy.ParsePlatform(s)
		if err != nil {
			return err
		}
		w.platforms = append(w.platforms, p)
	}
	return nil
}

// what returns what to call that which is served.
func (cfg config) what() string {
	switch {
	case cfg.origin.host != "" && cfg.dir != "":
		return fmt.Sprintf("a cache of %s in the directory %s", cfg.origin.host, cfg.dir)
	case cfg.origin.host != "":
		return fmt.Sprintf("a cache of %s in memory", cfg.origin.host)
	case cfg.layout != "":
		return fmt.Sprintf("the image layout %s as %s", cfg.layout, cfg.repo)
	case cfg.dir != "":
		return "the directory " + cfg.dir
	case cfg.remote.host != "":
		return "the registry " + cfg.remote.host
	}
	return "memory"
}

// backend is a registry that is closed at the end.
type backend interface {
	ociregistry.Interface
	io.Closer
}

// memory is closed by letting go of it.
type memory struct{ *ocimem.Registry }

func (memory) Close() error { return nil }

// open returns the registry to serve. Problems are told to logger, and what a
// mirror does to changes.
func (cfg config) open(logger, changes *slog.Logger) (backend, error) {
	cfg.disk.Logger = logger
	switch {
	case cfg.origin.host != "":
		return cfg.openCache(logger, changes)
	case cfg.layout != "":
		return ocifs.NewLayout(cfg.layout, cfg.repo, &cfg.disk)
	case cfg.dir != "":
		return ocifs.New(cfg.dir, &cfg.disk)
	case cfg.remote.host != "":
		return cfg.remote.open(cfg.disk.ReadOnly, logger)
	}
	return memory{ocimem.NewWithConfig(&cfg.mem)}, nil
}
