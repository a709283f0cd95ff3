package main

import (
	"fmt"
	"io"
	"log"
	"net/http"

	cuemem "cuelabs.dev/go/oci/ociregistry/ocimem"
	cueserver "cuelabs.dev/go/oci/ociregistry/ociserver"
	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
)

// server is something to measure.
type server struct {
	name  string // in flags and benchmarks
	title string // in tables

	// against names the server of this library that this one is compared with.
	// It is empty for those.
	against string

	// limit says that this is no registry, but the least that one must do: it
	// answers GET with whatever was PUT to the same URL.
	limit bool

	// open returns the server's handler, and has a directory of its own that is
	// empty and is removed in the end. If open is nil, hashing the content is
	// all that is measured.
	open func(dir string) (http.Handler, error)
}

// servers are measured in this order.
var servers = []server{{
	name:  "ocimem",
	title: "ocimem",
	open: func(string) (http.Handler, error) {
		return ociserver.New(ocimem.New(), nil), nil
	},
}, {
	name:    "cuelabs",
	title:   "cuelabs ocimem",
	against: "ocimem",
	open: func(string) (http.Handler, error) {
		return cueserver.New(cuemem.New(), nil), nil
	},
}, {
	name:    "ggcr",
	title:   "ggcr registry",
	against: "ocimem",
	open: func(string) (http.Handler, error) {
		return ggcr.New(
			ggcr.WithBlobHandler(ggcr.NewInMemoryBlobHandler()),
			ggcr.Logger(log.New(io.Discard, "", 0)),
		), nil
	},
}, {
	name:    "bare",
	title:   "bare net/http",
	against: "ocimem",
	limit:   true,
	open: func(string) (http.Handler, error) {
		return newBare(), nil
	},
}, {
	name:    "sha256",
	title:   "SHA-256",
	against: "ocimem",
	limit:   true,
}}

func serverNamed(name string) (server, error) {
	for _, s := range servers {
		if s.name == name && s.open != nil {
			return s, nil
		}
	}
	return server{}, fmt.Errorf("no server is named %q", name)
}
