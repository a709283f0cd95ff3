package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// config is the values of the flags.
type config struct {
	site site

	// What to serve: a directory of layouts, one layout as the repository repo, or
	// another registry. If all are empty, it is a registry in memory.
	dir, layout, repo string
	remote            remote

	// What to serve of another kind of storage.
	chosen chosen

	// With an origin, memory, the directory or the other storage is a cache of it. The file mirror has
	// rules for a part of its content.
	origin remote
	mirror string
	whole  whole

	mem  ocimem.Config
	disk ocifs.Options

	quotas quotas

	gcInterval time.Duration // 0 means that no garbage is collected
	gc         *ocigc.Options
}

func parseFlags(args []string, stderr io.Writer, storages ...Storage) (config, error) {
	var cfg config
	var gc collection
	flags := flag.NewFlagSet("ociserve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Bool("mem", true, "serve a registry in memory, which is the default: all is gone when the program ends")
	flags.StringVar(&cfg.dir, "dir", "", "serve the directory `path`, which has an OCI image layout for each repository")
	flags.StringVar(&cfg.layout, "layout", "", "serve the OCI image layout in the directory `path` as the only repository")
	cfg.chosen.define(flags, storages)
	flags.StringVar(&cfg.repo, "repo", "", "the `name` of the repository that -layout serves (default the last element of its path)")
	flags.Func("proxy", "serve the registry at `host`, and keep nothing here; http://host means one without TLS", cfg.remote.set)
	flags.Func("cache", "serve the registry at `host`, and keep what is pulled in memory or -dir; http://host means one without TLS", cfg.origin.set)
	flags.StringVar(&cfg.mirror, "mirror", "", "the `file` of rules, in JSON, for what -cache serves from other registries, and what it keeps up to date")
	flags.Func("whole", "let -cache fetch a whole image when its manifest is asked for, for the `platforms` of a list such as linux/amd64,linux/arm64, or all", cfg.whole.set)
	flags.BoolVar(&cfg.mem.Sparse, "sparse", false, "accept manifests whose blobs are missing, and deletes of blobs in use")
	flags.BoolVar(&cfg.mem.ImmutableTags, "immutable", false, "refuse to move or delete tags")
	flags.Int64Var(&cfg.mem.MaxBytes, "max-bytes", 0, "refuse pushes beyond a total of `n` bytes, or with -cache delete what was not read for the longest time; 0 means no limit")
	flags.IntVar(&cfg.mem.MaxUploads, "max-uploads", ocimem.DefaultMaxUploads, "refuse to begin more than `n` uploads at a time; a negative number means no limit")
	flags.Func("quota", "refuse pushes with which repositories whose names are or begin with a prefix would hold more than a number of bytes, such as team/a=1000000000; an empty prefix is for all, and the flag can be repeated: `prefix=bytes`", cfg.quotas.add)
	flags.BoolVar(&cfg.disk.ReadOnly, "read-only", false, "refuse all pushes and deletes, and write nothing (for -dir, -layout and -proxy)")
	flags.BoolVar(&cfg.disk.NoSync, "no-sync", false, "do not wait for the disk: faster, but a power cut may lose what was pushed (for -dir and -layout)")
	flags.BoolVar(&cfg.disk.VerifyReads, "verify-reads", false, "compare blobs with their digests when they are first read, so that no damaged blob is served completely (for -dir and -layout)")
	flags.DurationVar(&cfg.gcInterval, "gc-interval", 0, "collect garbage at once and then each time the `duration` has passed; 0 means never")
	gc.define(flags, "gc-")
	cfg.site.define(flags)
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
	if err := cfg.site.check(); err != nil {
		return cfg, err
	}
	if err := cfg.chosen.check(flags); err != nil {
		return cfg, err
	}
	if err := cfg.choose(flags); err != nil {
		return cfg, err
	}
	if cfg.gc, err = gc.options(); err != nil {
		return cfg, fmt.Errorf("-gc-interval: %w", err)
	}
	cfg.disk.Sparse = cfg.mem.Sparse
	cfg.disk.ImmutableTags = cfg.mem.ImmutableTags
	cfg.disk.MaxBytes = cfg.mem.MaxBytes
	cfg.disk.MaxUploads = cfg.mem.MaxUploads
	return cfg, nil
}

// choose checks that the flags agree about what to serve, and sets the name of the
// repository of -layout.
func (cfg *config) choose(flags *flag.FlagSet) error {
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	mem := flags.Lookup("mem").Value.String() == "true"
	onDisk := given["dir"] || given["layout"]
	stored := cfg.chosen.Storage != nil
	inMemory := !onDisk && !given["proxy"] && !stored
	switch {
	case stored && (onDisk || given["proxy"]):
		return fmt.Errorf("-%s excludes -dir, -layout and -proxy", cfg.chosen.Flag)
	case stored && (given["max-bytes"] && !given["cache"] || given["max-uploads"]):
		return fmt.Errorf("-max-bytes and -max-uploads are not for -%s", cfg.chosen.Flag)
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
	case given["quota"] && (given["proxy"] || given["cache"]):
		return errors.New("-quota is not for -proxy and -cache")
	case cfg.gcInterval < 0:
		return errors.New("-gc-interval cannot be negative")
	case cfg.gcInterval > 0 && (given["proxy"] || given["cache"] || cfg.disk.ReadOnly):
		return errors.New("-gc-interval is not for -proxy, -cache and -read-only")
	case cfg.gcInterval == 0 && (given["gc-delay"] || given["gc-policy"] || given["gc-untagged"] || given["gc-dangling"]):
		return errors.New("-gc-delay, -gc-policy, -gc-untagged and -gc-dangling need -gc-interval")
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

// whole says whether a cache fetches whole images, and for which platforms.
type whole struct {
	images    bool
	platforms []ocispec.Platform // nil is all
}

// set sets w to the value of the flag.
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

// what describes what is served.
func (cfg config) what() string {
	switch {
	case cfg.origin.host != "" && cfg.dir != "":
		return fmt.Sprintf("a cache of %s in the directory %s", cfg.origin.host, cfg.dir)
	case cfg.origin.host != "" && cfg.chosen.Storage != nil:
		return fmt.Sprintf("a cache of %s in %s", cfg.origin.host, cfg.chosen.what())
	case cfg.origin.host != "":
		return fmt.Sprintf("a cache of %s in memory", cfg.origin.host)
	case cfg.chosen.Storage != nil:
		return cfg.chosen.what()
	case cfg.layout != "":
		return fmt.Sprintf("the image layout %s as %s", cfg.layout, cfg.repo)
	case cfg.dir != "":
		return "the directory " + cfg.dir
	case cfg.remote.host != "":
		return "the registry " + cfg.remote.host
	}
	return "memory"
}

// memory is a registry in memory. It has nothing to close.
type memory struct{ *ocimem.Registry }

func (memory) Close() error { return nil }

// open returns the registry to serve. Problems are logged to logger, and changes by a mirror
// to changes.
func (cfg config) open(ctx context.Context, logger, changes *slog.Logger) (*Opened, error) {
	if cfg.chosen.Storage != nil && cfg.origin.host == "" {
		return cfg.chosen.open(ctx, Settings{cfg.disk.ReadOnly, cfg.disk.ImmutableTags, cfg.disk.Sparse, logger})
	}
	registry, err := cfg.openRegistry(ctx, logger, changes)
	return &Opened{Registry: registry}, err
}

func (cfg config) openRegistry(ctx context.Context, logger, changes *slog.Logger) (Registry, error) {
	cfg.disk.Logger = logger
	switch {
	case cfg.origin.host != "":
		return cfg.openCache(ctx, logger, changes)
	case cfg.layout != "":
		return ocifs.NewLayout(cfg.layout, cfg.repo, &cfg.disk)
	case cfg.dir != "":
		return ocifs.New(cfg.dir, &cfg.disk)
	case cfg.remote.host != "":
		return cfg.remote.open(cfg.disk.ReadOnly, logger)
	}
	return memory{ocimem.NewWithConfig(&cfg.mem)}, nil
}
