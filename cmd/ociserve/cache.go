package main

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

// cached is a cache of another registry, with a mirror of some of what it serves.
type cached struct {
	*ociunify.Cache
	stop    func() // ends the mirror, and waits for that
	closers []io.Closer
}

// openCache returns the cache that the flags ask for. Problems are told to logger,
// what the mirror did to changes.
func (cfg config) openCache(logger, changes *slog.Logger) (_ backend, err error) {
	c := &cached{stop: func() {}}
	defer func() {
		if err != nil {
			c.closeAll()
		}
	}()
	local, err := cfg.openKept()
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, local)
	origin, err := cfg.origin.open(false, logger)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, origin)
	var serving ociregistry.Interface = origin
	if cfg.mirror != "" {
		if serving, err = c.startMirror(cfg, local, origin, changes, logger); err != nil {
			return nil, err
		}
	}
	c.Cache = ociunify.NewCache(local, serving, &ociunify.CacheOptions{
		MaxBytes:    cfg.mem.MaxBytes,
		WholeImages: cfg.whole.images,
		Platforms:   cfg.whole.platforms,
		Logger:      logger,
	})
	return c, nil
}

// openKept opens the registry that has what is kept. It is sparse: images come in
// parts, and go in parts.
func (cfg config) openKept() (backend, error) {
	if cfg.dir == "" {
		return memory{ocimem.NewWithConfig(&ocimem.Config{Sparse: true})}, nil
	}
	return ocifs.New(cfg.dir, &ocifs.Options{Sparse: true, NoSync: cfg.disk.NoSync, Logger: cfg.disk.Logger})
}

// startMirror starts to mirror what the rules say, and returns the registry to
// cache: the sources that the rules lead to, and the origin for all else.
func (c *cached) startMirror(cfg config, local, origin ociregistry.Interface, changes, logger *slog.Logger) (ociregistry.Interface, error) {
	rules, err := readRules(cfg.mirror)
	if err != nil {
		return nil, err
	}
	var all, current []ocicopy.Source
	for i, s := range rules.Sources {
		name := fmt.Sprintf("%d, %s", i+1, s.registry(cfg.origin).host)
		source := ocicopy.Source{Name: name, Registry: origin, Rules: s.Rules, Stall: time.Duration(s.Stall)}
		if s.registry(cfg.origin) != cfg.origin {
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
		return nil, fmt.Errorf("-mirror %s: %w", cfg.mirror, err)
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

// run runs a mirror until c is closed.
func (c *cached) run(mirror *ocicopy.Mirror) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { mirror.Run(ctx) })
	c.stop = func() {
		cancel()
		running.Wait()
	}
}

// Close ends the mirror, lets the cache store what it has, and closes what both
// used.
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
