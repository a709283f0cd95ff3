package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os/exec"
	"strings"

	cuemem "cuelabs.dev/go/oci/ociregistry/ocimem"
	cueserver "cuelabs.dev/go/oci/ociregistry/ociserver"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/olareg/olareg"
	olaregconfig "github.com/olareg/olareg/config"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

// server is something to measure.
type server struct {
	name  string // in flags and benchmarks
	title string // in tables

	// group names the servers that are compared with this one. It is empty
	// unless the server is this library's.
	group string

	// against names the server of this library that this one is compared with.
	// It is empty for those.
	against string

	// limit says that this is no registry, but the least that one must do: it
	// answers GET with whatever was PUT to the same URL.
	limit bool

	storage storage

	// memoryRows says in which rows the server has only in memory what the one it
	// is compared with writes to files. Nil is none.
	memoryRows func(row string) bool

	// open returns the server's handler, and what ends it well, if there is
	// such a thing. Its place is a directory of its own, or the URL of a bucket,
	// which is empty at first and is removed in the end. If open is nil, hashing the
	// content is all that is measured.
	open func(place string) (_ http.Handler, close func() error, _ error)

	// cache says that the server is a cache of another registry.
	cache bool

	// program is what must be in PATH, if the server is another program.
	program string

	// library returns the client library that is measured, with a server that is
	// the same for all of them. It is nil if the server is what is measured.
	library func(host string, t *http.Transport) (library, error)
}

// forgets reports whether the server loses with its process what a row has it
// keep, other than the one it is compared with.
func (s *server) forgets(row string) bool { return s.memoryRows != nil && s.memoryRows(row) }

// isReopenRow says whether a row is for servers that keep what they have.
func isReopenRow(name string) bool { return strings.HasPrefix(name, "Reopen") }

// suits says whether a row is for a server.
func (s *server) suits(row string) bool {
	if isReopenRow(row) && (s.storage == inMemory || s.forgets(row)) {
		return false
	}
	return isLibraryRow(row) == (s.library != nil) && isCacheRow(row) == s.cache && isBucketRow(row) == (s.storage == inBucket)
}

// missing reports whether the server is a program that is not installed.
func (s *server) missing() bool {
	if s.program == "" {
		return false
	}
	_, err := exec.LookPath(s.program)
	return err != nil
}

// storage is where a server keeps content.
type storage int

const (
	inMemory storage = iota
	onDisk           // in files: what it acknowledged, a power cut may take
	durable          // in files, and nothing is acknowledged before it is on the disk
	inBucket         // in object storage
)

// servers are measured in this order.
var servers = []server{{
	name:  "ocimem",
	title: "ocimem",
	group: "Memory",
	open:  openOcimem,
}, {
	name:    "cuelabs",
	title:   "cuelabs ocimem",
	against: "ocimem",
	open: func(string) (http.Handler, func() error, error) {
		return cueserver.New(cuemem.New(), nil), nil, nil
	},
}, {
	name:    "ggcr",
	title:   "ggcr registry",
	against: "ocimem",
	open: func(string) (http.Handler, func() error, error) {
		return newGGCR(ggcr.NewInMemoryBlobHandler()), nil, nil
	},
}, {
	name:    "bare",
	title:   "bare net/http",
	against: "ocimem",
	limit:   true,
	open: func(string) (http.Handler, func() error, error) {
		return newBare(newBareMemory()), nil, nil
	},
}, {
	name:    "sha256",
	title:   "SHA-256",
	against: "ocimem",
	limit:   true,
}, {
	name:    "ocifs-nosync",
	title:   "ocifs, NoSync",
	group:   "Disk, without sync",
	storage: onDisk,
	open:    openOcifs(&ocifs.Options{NoSync: true}),
}, {
	// Only blobs are in files, and they are never synced: Put of its
	// blobs_disk.go is Copy, Close and Rename. Manifests and tags are in
	// memory, and end with the process; ocifs writes them to files.
	name:       "ggcr-disk",
	title:      "ggcr registry, blobs on disk",
	against:    "ocifs-nosync",
	storage:    onDisk,
	memoryRows: func(row string) bool { return !strings.HasPrefix(row, "Blob") },
	open: func(dir string) (http.Handler, func() error, error) {
		return newGGCR(ggcr.NewDiskBlobHandler(dir)), nil, nil
	},
}, {
	// Manifests and tags are in files, too; nothing is synced.
	name:    "olareg-dir",
	title:   "olareg, directory",
	against: "ocifs-nosync",
	storage: onDisk,
	open:    openOlareg,
}, {
	name:    "bare-disk",
	title:   "bare files",
	against: "ocifs-nosync",
	limit:   true,
	storage: onDisk,
	open: func(dir string) (http.Handler, func() error, error) {
		return newBare(&bareDisk{dir: dir}), nil, nil
	},
}, {
	name:    "ocifs",
	title:   "ocifs",
	group:   "Disk, durable",
	storage: durable,
	open:    openOcifs(nil),
}, {
	name:    "distribution",
	title:   "distribution v3",
	against: "ocifs",
	storage: durable,
	open:    openDistribution,
}, {
	name:    "bare-fsync",
	title:   "bare files, fsync",
	against: "ocifs",
	limit:   true,
	storage: durable,
	open: func(dir string) (http.Handler, func() error, error) {
		return newBare(&bareDisk{dir: dir, sync: true}), nil, nil
	},
}, {
	name:    "cache",
	title:   "ociunify's cache, ocifs",
	group:   "Cache on disk, durable",
	storage: durable,
	cache:   true,
	open:    openCache(newOurCache),
}, {
	name:    "distribution-proxy",
	title:   "distribution v3, proxy mode",
	against: "cache",
	storage: durable,
	cache:   true,
	open:    openCache(newDistributionCache),
}, {
	name:    "zot-cache",
	title:   "zot, sync on demand",
	against: "cache",
	storage: durable,
	cache:   true,
	program: zotProgram,
	open:    openZotCache,
}, {
	name:    "ocibucket",
	title:   "ocibucket",
	group:   "Object storage",
	storage: inBucket,
	open:    openOcibucket,
}, {
	name:    "distribution-s3",
	title:   "distribution v3, S3 driver",
	against: "ocibucket",
	storage: inBucket,
	open:    openDistributionS3(map[string]any{"blobdescriptor": "inmemory"}),
}, {
	// As it must be if several processes share the bucket.
	name:    "distribution-s3-shared",
	title:   "the same without its cache",
	against: "ocibucket",
	storage: inBucket,
	open:    openDistributionS3(nil),
}, {
	name:    "ociclient",
	title:   "ociclient",
	group:   "Client libraries",
	open:    openOcimem,
	library: newOurs,
}, {
	name:    "cuelabs-client",
	title:   "cuelabs ociclient",
	against: "ociclient",
	open:    openOcimem,
	library: newCuelabs,
}, {
	name:    "ggcr-remote",
	title:   "ggcr remote",
	against: "ociclient",
	open:    openOcimem,
	library: newGGCRLibrary,
}, {
	name:    "oras-go",
	title:   "oras-go",
	against: "ociclient",
	open:    openOcimem,
	library: newOras,
}, {
	name:    "regclient",
	title:   "regclient",
	against: "ociclient",
	open:    openOcimem,
	library: newRegclient,
}}

func serverNamed(name string) (server, error) {
	for _, s := range servers {
		if s.name == name && s.open != nil {
			return s, nil
		}
	}
	return server{}, fmt.Errorf("no server is named %q", name)
}

func openOcimem(string) (http.Handler, func() error, error) {
	return ociserver.New(ocimem.New(), nil), nil, nil
}

func newGGCR(blobs ggcr.BlobHandler) http.Handler {
	return ggcr.New(ggcr.WithBlobHandler(blobs), ggcr.Logger(log.New(io.Discard, "", 0)))
}

func openOlareg(dir string) (http.Handler, func() error, error) {
	yes := true
	s := olareg.New(olaregconfig.Config{
		Storage: olaregconfig.ConfigStorage{StoreType: olaregconfig.StoreDir, RootDir: dir},
		API:     olaregconfig.ConfigAPI{DeleteEnabled: &yes},
	})
	return s, s.Close, nil
}

func openOcifs(opts *ocifs.Options) func(string) (http.Handler, func() error, error) {
	return func(dir string) (http.Handler, func() error, error) {
		reg, err := ocifs.New(dir, opts)
		if err != nil {
			return nil, nil, err
		}
		return ociserver.New(reg, nil), reg.Close, nil
	}
}
