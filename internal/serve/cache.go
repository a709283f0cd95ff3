package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
	"github.com/seed-40b21970/oci/ociunify"
)

// cached is a cache of another registry, with a mirror of a part of its content.
type cached struct {
	*ociunify.Cache
	stop    func() // ends the mirror, and waits until it has ended
	closers []io.Closer
}

// openCache returns the cache that the flags ask for. Problems are logged to logger, and
// changes by the mirror to changes.
func (st store) openCache(ctx context.Context, logger, changes *slog.Logger) (_ Registry, err error) {
	c := &cached{stop: func() {}}
	defer func() {
		if err != nil {
			c.closeAll()
		}
	}()
	local, err := st.openKept(ctx)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, local)
	origin, err := st.origin.open(false, logger)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, origin)
	var serving ociregistry.Interface = origin
	if st.mirror != "" {
		if serving, err = c.startMirror(st, local, origin, changes, logger); err != nil {
			return nil, err
		}
	}
	c.Cache = ociunify.NewCache(local, serving, &ociunify.CacheOptions{
		MaxBytes:    st.mem.MaxBytes,
		WholeImages: st.whole.images,
		Platforms:   st.whole.platforms,
		Logger:      logger,
	})
	return c, nil
}

// openKept opens the registry of the cached content. It is sparse, because images arrive and
// are deleted in parts.
func (st store) openKept(ctx context.Context) (Registry, error) {
	if st.chosen.Storage != nil {
		opened, err := st.chosen.open(ctx, Settings{Sparse: true, Logger: st.disk.Logger})
		if err != nil {
			return nil, err
		}
		return opened.Registry, nil
	}
	if st.dir == "" {
		return memory{ocimem.NewWithConfig(&ocimem.Config{Sparse: true})}, nil
	}
	return ocifs.New(st.dir, &ocifs.Options{Sparse: true, NoSync: st.disk.NoSync, Logger: st.disk.Logger})
}

// startMirror starts a mirror by the rules, and returns the registry to cache. That consists
// of the sources of the rules, and the origin for everything else.
func (c *cached) startMirror(st store, local, origin ociregistry.Interface, changes, logger *slog.Logger) (ociregistry.Interface, error) {
	rules, err := readRules(st.mirror)
	if err != nil {
		return nil, err
	}
	var all, current []ocicopy.Source
	for i, s := range rules.Sources {
		name := fmt.Sprintf("%d, %s", i+1, s.registry(st.origin).host)
		source := ocicopy.Source{Name: name, Registry: origin, Rules: s.Rules, Stall: time.Duration(s.Stall)}
		if s.registry(st.origin) != st.origin {
			reg, err := s.Registry.open(false, logger)
			if err != nil {
				return nil, err
			}
			c.closers = append(c.closers, reg)
			source.Registry = reg
		}
		all = append(all, source)
		if !s.OnDemand {
			current = append(current, source)
		}
	}
	routes, err := ocicopy.NewMirror(local, all, nil)
	if err != nil {
		return nil, fmt.Errorf("-mirror %s: %w", st.mirror, err)
	}
	mirror, err := ocicopy.NewMirror(local, current, &ocicopy.MirrorOptions{
		Interval: time.Duration(rules.Interval),
		Logger:   changes,
	})
	if err != nil {
		return nil, err
	}
	c.run(mirror)
	return newRouter(routes, origin, local, logger), nil
}

// run starts a mirror that runs until c is closed.
func (c *cached) run(mirror *ocicopy.Mirror) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { mirror.Run(ctx) })
	c.stop = func() {
		cancel()
		running.Wait()
	}
}

// Close ends the mirror, lets the cache store what it has fetched, and closes the registries
// of both.
func (c *cached) Close() error {
	c.stop()
	return errors.Join(c.Cache.Close(), c.closeAll())
}

func (c *cached) closeAll() error {
	c.stop()
	var errs []error
	for _, closer := range c.closers {
		errs = append(errs, closer.Close())
	}
	return errors.Join(errs...)
}
