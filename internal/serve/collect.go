package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// collection says what a collection of garbage removes.
type collection struct {
	delay              time.Duration
	policy             string // the file
	untagged, dangling bool
}

// define defines the flags for a collection, whose names have a prefix.
func (c *collection) define(flags *flag.FlagSet, prefix string) {
	flags.DurationVar(&c.delay, prefix+"delay", ocigc.DefaultDelay, "how long garbage stays, so that clients can finish what they have begun; 0 is right only if nobody pushes")
	flags.StringVar(&c.policy, prefix+"policy", "", "the `file` of policies, in JSON, that says which tags are kept, and what else is removed")
	flags.BoolVar(&c.untagged, prefix+"untagged", false, "remove manifests that no tag, index or subject keeps, where no policy says otherwise")
	flags.BoolVar(&c.dangling, prefix+"dangling", false, "remove referrers, such as signatures, whose subject is gone, where no policy says otherwise")
}

// options returns the options for a collection.
func (c *collection) options() (*ocigc.Options, error) {
	opts := &ocigc.Options{Delay: c.delay, Untagged: c.untagged, Dangling: c.dangling}
	switch {
	case c.delay < 0:
		return nil, errors.New("the delay of a collection cannot be negative")
	case c.delay == 0:
		opts.Delay = -1
	}
	if c.policy == "" {
		return opts, nil
	}
	data, err := os.ReadFile(c.policy)
	if err != nil {
		return nil, err
	}
	if opts.Policies, err = ocigc.ParsePolicies(data); err != nil {
		return nil, fmt.Errorf("%s: %w", c.policy, err)
	}
	return opts, nil
}

// collectInTurns collects the garbage of registries, one after the other, at once and then after each interval,
// until stop is called, which waits for the end. It logs what was removed to changes, and
// problems to logger.
func collectInTurns(registries []ocigc.Collector, opts *ocigc.Options, interval time.Duration, logger, changes *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for ctx.Err() == nil {
			for _, reg := range registries {
				collect(ctx, reg, opts, logger, changes)
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// collect collects the garbage of a registry once.
func collect(ctx context.Context, reg ocigc.Collector, opts *ocigc.Options, logger, changes *slog.Logger) {
	once := *opts
	once.Finding = func(ocigc.Finding) {} // the report needs no list
	start := time.Now()
	report, err := reg.GC(ctx, &once)
	if err != nil && ctx.Err() == nil {
		logger.Error("collecting garbage failed", "error", err)
	}
	if report == nil {
		return
	}
	for _, p := range report.Problems {
		logger.Warn("garbage was left", "repository", p.Repository, "error", p.Err)
	}
	changes.Info("collected garbage", "repositories", report.Repositories, "tags", report.Tags, "manifests", report.Manifests,
		"blobs", report.Blobs, "uploads", report.Uploads, "bytes", report.Bytes, "duration", time.Since(start).Round(time.Millisecond))
}
