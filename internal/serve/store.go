package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// store is where repositories are.
type store struct {
	// A directory of layouts, one layout as the repository repo, or another registry. If all
	// are empty, it is a registry in memory.
	dir, layout, repo string
	remote            remote

	// Another kind of storage.
	chosen chosen

	// With an origin, memory, the directory or the other storage is a cache of it. The file
	// mirror has rules for a part of its content.
	origin remote
	mirror string
	whole  whole

	mem    ocimem.Config
	disk   ocifs.Options
	quotas quotas
}

// define defines the flags of a store.
func (st *store) define(flags *flag.FlagSet, storages []Storage) {
	flags.Bool("mem", true, "serve a registry in memory, which is the default: all is gone when the program ends")
	flags.StringVar(&st.dir, "dir", "", "serve the directory `path`, which has an OCI image layout for each repository")
	flags.StringVar(&st.layout, "layout", "", "serve the OCI image layout in the directory `path` as the only repository")
	st.chosen.define(flags, storages)
	flags.StringVar(&st.repo, "repo", "", "the `name` of the repository that -layout serves (default the last element of its path)")
	flags.Func("proxy", "serve the registry at `host`, and keep nothing here; http://host means one without TLS", st.remote.set)
	flags.Func("cache", "serve the registry at `host`, and keep what is pulled in memory or -dir; http://host means one without TLS", st.origin.set)
	flags.StringVar(&st.mirror, "mirror", "", "the `file` of rules, in JSON, for what -cache serves from other registries, and what it keeps up to date")
	flags.Func("whole", "let -cache fetch a whole image when its manifest is asked for, for the `platforms` of a list such as linux/amd64,linux/arm64, or all", st.whole.set)
	flags.BoolVar(&st.mem.Sparse, "sparse", false, "accept manifests whose blobs are missing, and deletes of blobs in use")
	flags.BoolVar(&st.mem.ImmutableTags, "immutable", false, "refuse to move or delete tags")
	flags.Int64Var(&st.mem.MaxBytes, "max-bytes", 0, "refuse pushes beyond a total of `n` bytes, or with -cache delete what was not read for the longest time; 0 means no limit")
	flags.IntVar(&st.mem.MaxUploads, "max-uploads", ocimem.DefaultMaxUploads, "refuse to begin more than `n` uploads at a time; a negative number means no limit")
	flags.Func("quota", "refuse pushes with which repositories whose names are or begin with a prefix would hold more than a number of bytes, such as team/a=1000000000; an empty prefix is for all, and the flag can be repeated: `prefix=bytes`", st.quotas.add)
	flags.BoolVar(&st.disk.ReadOnly, "read-only", false, "refuse all pushes and deletes, and write nothing (for -dir, -layout and -proxy)")
	flags.BoolVar(&st.disk.NoSync, "no-sync", false, "do not wait for the disk: faster, but a power cut may lose what was pushed (for -dir and -layout)")
	flags.BoolVar(&st.disk.VerifyReads, "verify-reads", false, "compare blobs with their digests when they are first read, so that no damaged blob is served completely (for -dir and -layout)")
}

// choose checks that the flags agree about what to serve, and sets the name of the
// repository of -layout.
func (st *store) choose(flags *flag.FlagSet) error {
	if err := st.chosen.check(flags); err != nil {
		return err
	}
	st.disk.Sparse = st.mem.Sparse
	st.disk.ImmutableTags = st.mem.ImmutableTags
	st.disk.MaxBytes = st.mem.MaxBytes
	st.disk.MaxUploads = st.mem.MaxUploads
	given := givenIn(flags)
	mem := flags.Lookup("mem").Value.String() == "true"
	onDisk := given["dir"] || given["layout"]
	stored := st.chosen.Storage != nil
	inMemory := !onDisk && !given["proxy"] && !stored
	switch {
	case stored && (onDisk || given["proxy"]):
		return fmt.Errorf("-%s excludes -dir, -layout and -proxy", st.chosen.Flag)
	case stored && given["max-bytes"] && !given["cache"]:
		return fmt.Errorf("-max-bytes is not for -%s", st.chosen.Flag)
	case given["dir"] && given["layout"]:
		return errors.New("-dir and -layout exclude each other")
	case given["proxy"] && onDisk:
		return errors.New("-proxy excludes -dir and -layout")
	case given["dir"] && st.dir == "":
		return errors.New("-dir needs a path")
	case given["layout"] && st.layout == "":
		return errors.New("-layout needs a path")
	case given["mem"] && mem && !inMemory:
		return errors.New("-mem excludes -dir, -layout and -proxy")
	case !mem && inMemory:
		return errNothing
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
	case given["mirror"] && st.mirror == "":
		return errors.New("-mirror needs a file")
	case given["repo"] && !given["layout"]:
		return errors.New("-repo is for -layout")
	case st.disk.ReadOnly && inMemory:
		return errors.New("-read-only is for -dir, -layout and -proxy")
	case st.disk.NoSync && !onDisk:
		return errors.New("-no-sync is for -dir and -layout")
	case st.disk.VerifyReads && (!onDisk || given["cache"]):
		return errors.New("-verify-reads is for -dir and -layout, without -cache")
	case given["max-uploads"] && (given["proxy"] || given["cache"]):
		return errors.New("-max-uploads is not for -proxy and -cache")
	case st.mem.MaxUploads == 0:
		return errors.New("-max-uploads cannot be 0")
	case given["quota"] && (given["proxy"] || given["cache"]):
		return errors.New("-quota is not for -proxy and -cache")
	case st.disk.NoSync && st.disk.ReadOnly:
		return errors.New("-no-sync and -read-only exclude each other")
	case st.mem.MaxBytes < 0:
		return errors.New("-max-bytes cannot be negative")
	case !given["layout"]:
		return nil
	case given["repo"]:
		if !ociref.IsValidRepository(st.repo) {
			return fmt.Errorf("-repo %q is not a repository name", st.repo)
		}
		return nil
	}
	path, err := filepath.Abs(st.layout)
	if err != nil {
		return fmt.Errorf("-layout %q: %w", st.layout, err)
	}
	if st.repo = filepath.Base(path); !ociref.IsValidRepository(st.repo) {
		return fmt.Errorf("-layout %q: %q is not a repository name; give one with -repo", st.layout, st.repo)
	}
	return nil
}

var errNothing = errors.New("-mem=false leaves nothing to serve")

// isRemote reports whether the store is, or keeps, what another registry has.
func (st store) isRemote() bool { return st.remote.host != "" || st.origin.host != "" }

// collects reports whether the garbage of the store can be collected.
func (st store) collects() bool { return !st.isRemote() && !st.disk.ReadOnly }

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
func (st store) what() string {
	switch {
	case st.origin.host != "" && st.dir != "":
		return fmt.Sprintf("a cache of %s in the directory %s", st.origin.host, st.dir)
	case st.origin.host != "" && st.chosen.Storage != nil:
		return fmt.Sprintf("a cache of %s in %s", st.origin.host, st.chosen.what())
	case st.origin.host != "":
		return fmt.Sprintf("a cache of %s in memory", st.origin.host)
	case st.chosen.Storage != nil:
		return st.chosen.what()
	case st.layout != "":
		return fmt.Sprintf("the image layout %s as %s", st.layout, st.repo)
	case st.dir != "":
		return "the directory " + st.dir
	case st.remote.host != "":
		return "the registry " + st.remote.host
	}
	return "memory"
}

// memory is a registry in memory. It has nothing to close.
type memory struct{ *ocimem.Registry }

func (memory) Close() error { return nil }

// open returns the registry to serve. Problems are logged to logger, and changes by a mirror
// to changes.
func (st store) open(ctx context.Context, logger, changes *slog.Logger) (*Opened, error) {
	if st.chosen.Storage != nil && st.origin.host == "" {
		return st.chosen.open(ctx, Settings{
			ReadOnly: st.disk.ReadOnly, ImmutableTags: st.disk.ImmutableTags, Sparse: st.disk.Sparse, MaxUploads: st.disk.MaxUploads, Logger: logger,
		})
	}
	registry, err := st.openRegistry(ctx, logger, changes)
	return &Opened{Registry: registry}, err
}

func (st store) openRegistry(ctx context.Context, logger, changes *slog.Logger) (Registry, error) {
	st.disk.Logger = logger
	switch {
	case st.origin.host != "":
		return st.openCache(ctx, logger, changes)
	case st.layout != "":
		return ocifs.NewLayout(st.layout, st.repo, &st.disk)
	case st.dir != "":
		return ocifs.New(st.dir, &st.disk)
	case st.remote.host != "":
		return st.remote.open(st.disk.ReadOnly, logger)
	}
	return memory{ocimem.NewWithConfig(&st.mem)}, nil
}
