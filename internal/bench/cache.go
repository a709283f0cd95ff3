package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/sirupsen/logrus"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociserver"
	"github.com/seed-40b21970/oci/ociunify"
)

// A cache has its origin in its own process: ocimem, for all of them. So what the origin does
// counts for each alike. What clients push goes to the origin.

// isCacheRow says whether a row is for caches.
func isCacheRow(name string) bool { return strings.HasPrefix(name, "Cache") }

// openCache returns an open function for the cache that newCache returns, of an origin at a
// host.
func openCache(newCache func(dir, origin string) (http.Handler, func() error, error)) func(string) (http.Handler, func() error, error) {
	return func(dir string) (http.Handler, func() error, error) {
		origin, addr, endOrigin, err := openOrigin()
		if err != nil {
			return nil, nil, err
		}
		cache, end, err := newCache(dir, addr)
		if err != nil {
			return nil, nil, errors.Join(err, endOrigin())
		}
		h := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet || req.Method == http.MethodHead {
				cache.ServeHTTP(w, req)
				return
			}
			origin.ServeHTTP(w, req)
		})
		return h, func() error { return errors.Join(end(), endOrigin()) }, nil
	}
}

// openOrigin serves ocimem at an address.
func openOrigin() (origin http.Handler, addr string, end func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	origin = ociserver.New(ocimem.New(), nil)
	server := &http.Server{Handler: origin}
	go server.Serve(l)
	return origin, l.Addr().String(), server.Close, nil
}

// newOurCache opens ocifs as a cache. It looks up each tag at its origin, as the others do.
func newOurCache(dir, origin string) (http.Handler, func() error, error) {
	kept, err := ocifs.New(dir, &ocifs.Options{Sparse: true})
	if err != nil {
		return nil, nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	client, err := ociclient.New(origin, &ociclient.Options{Insecure: true, Transport: transport})
	if err != nil {
		return nil, nil, errors.Join(err, kept.Close())
	}
	cache := ociunify.NewCache(kept, client, nil)
	return ociserver.New(cache, nil), func() error { return errors.Join(cache.Close(), kept.Close()) }, nil
}

// newDistributionCache opens distribution's registry in its proxy mode, configured as
// openDistribution does.
func newDistributionCache(dir, origin string) (http.Handler, func() error, error) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.ErrorLevel)
	app := handlers.NewApp(context.Background(), &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem":  {"rootdirectory": dir},
			"cache":       {"blobdescriptor": "inmemory"},
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
		Proxy: configuration.Proxy{RemoteURL: "http://" + origin},
	})
	return app, app.Shutdown, nil
}

// missImages pulls an image that the cache does not have in each operation.
func missImages(layerSize int64) func(n int) work {
	return func(n int) work {
		images := newOwnImages(n+1, layerSize)
		return work{
			prepare: func(c *client, s server) error {
				for i := range images {
					if err := images[i].push(c); err != nil {
						return err
					}
				}
				return images[n].check(c)
			},
			do: func(c *client, i int) error { return images[i].pull(c) },
		}
	}
}

func cacheRows(s scale) []row {
	var rows []row
	for _, clients := range []int{1, 16} {
		rows = append(rows,
			row{name: "CacheHit/layer=" + size(s.layer), clients: clients, ops: 1000, work: pullImages(s.layer)},
			row{name: "CacheMiss/layer=" + size(s.layer), clients: clients, ops: 200, grows: true, work: missImages(s.layer)},
		)
	}
	return rows
}
