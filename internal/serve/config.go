package serve

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

// config is the values of the flags.
type config struct {
	site   site
	access *Access

	// What to serve: the store itself, but for the repositories that routes lead to, or these
	// alone. Requests with the parameter ns go to one of the namespaces.
	store
	onlyRoutes bool
	routes     []route
	namespaces []route

	gcInterval time.Duration // 0 means that no garbage is collected
	gc         *ocigc.Options
}

func (p Program) parseFlags(args []string, stderr io.Writer) (config, error) {
	cfg := config{access: p.Access}
	var gc collection
	flags := flag.NewFlagSet("ociserve", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	cfg.store.define(flags, p.Storages)
	flags.Func("route", "serve the repositories below a prefix from elsewhere, as `prefix/=kind:value` says; can be repeated", func(value string) error {
		return cfg.addRoute(value, p.Storages)
	})
	flags.Func("ns", "serve requests whose parameter ns is a host from elsewhere, as `host=kind:value` says; can be repeated", func(value string) error {
		return cfg.addNamespace(value, p.Storages)
	})
	flags.DurationVar(&cfg.gcInterval, "gc-interval", 0, "collect garbage at once and then each time the `duration` has passed; 0 means never")
	gc.define(flags, "gc-")
	cfg.site.define(flags)
	cfg.access.define(flags)
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
	}
	if err := cfg.site.check(); err != nil {
		return cfg, err
	}
	if err := cfg.choose(flags); err != nil {
		return cfg, err
	}
	if err := cfg.checkCollection(flags); err != nil {
		return cfg, err
	}
	if cfg.gc, err = gc.options(); err != nil {
		return cfg, fmt.Errorf("-gc-interval: %w", err)
	}
	return cfg, nil
}

// choose is that of the store, which may be missing if there are routes.
func (cfg *config) choose(flags *flag.FlagSet) error {
	for _, r := range slices.Concat(cfg.routes, cfg.namespaces) {
		cfg.chosen.addElsewhere(r.chosen)
	}
	err := cfg.store.choose(flags)
	cfg.onlyRoutes = err == errNothing
	if cfg.onlyRoutes && len(cfg.routes) > 0 {
		return nil
	}
	return err
}

// what describes what is served, but for routes.
func (cfg *config) what() string {
	if cfg.onlyRoutes {
		return "what routes lead to"
	}
	return cfg.store.what()
}

// hasRemote reports whether other registries are served.
func (cfg *config) hasRemote() bool {
	isRemote := func(r route) bool { return r.isRemote() }
	return !cfg.onlyRoutes && cfg.isRemote() || slices.ContainsFunc(cfg.routes, isRemote)
}

// checkCollection checks the flags for collections.
func (cfg *config) checkCollection(flags *flag.FlagSet) error {
	given := givenIn(flags)
	switch {
	case cfg.gcInterval < 0:
		return errors.New("-gc-interval cannot be negative")
	case cfg.gcInterval > 0 && !cfg.collectsSome():
		return errors.New("-gc-interval is not for -proxy, -cache and -read-only")
	case cfg.gcInterval == 0 && (given["gc-delay"] || given["gc-policy"] || given["gc-untagged"] || given["gc-dangling"]):
		return errors.New("-gc-delay, -gc-policy, -gc-untagged and -gc-dangling need -gc-interval")
	}
	return nil
}

// collectsSome reports whether the garbage of something that is served can be collected.
func (cfg *config) collectsSome() bool {
	collects := func(r route) bool { return r.collects() }
	return !cfg.onlyRoutes && cfg.collects() || slices.ContainsFunc(slices.Concat(cfg.routes, cfg.namespaces), collects)
}

func givenIn(flags *flag.FlagSet) map[string]bool {
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return given
}
