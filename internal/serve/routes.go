package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
	"github.com/seed-40b21970/oci/ociunify"
)

// route leads repositories, or requests with the parameter ns, to a store.
type route struct {
	key   string // a prefix without a slash at its end, or a host
	strip bool   // the store has the repositories without the prefix
	store
}

// addRoute adds a route in the form of the flag.
func (cfg *config) addRoute(value string, storages []Storage) error {
	prefix, where, _ := strings.Cut(value, "=")
	prefix, ok := strings.CutSuffix(prefix, "/")
	if !ok || !ociref.IsValidRepository(prefix) {
		return errors.New("it has no prefix such as team/, followed by =")
	}
	r, err := parseRoute(prefix, where, storages)
	cfg.routes = append(cfg.routes, r)
	return err
}

// addNamespace adds a namespace in the form of the flag.
func (cfg *config) addNamespace(value string, storages []Storage) error {
	host, where, _ := strings.Cut(value, "=")
	if !ociref.IsValidHost(host) && !ociref.IsValidHost(host+":443") {
		return errors.New("it has no host, followed by =")
	}
	for _, r := range cfg.namespaces {
		if r.key == host {
			return fmt.Errorf("the host %s is given twice", host)
		}
	}
	r, err := parseRoute(host, where, storages)
	if r.strip {
		err = errors.New("strip is for -route")
	}
	cfg.namespaces = append(cfg.namespaces, r)
	return err
}

// parseRoute parses where a route leads to: kind:value, and settings after semicolons. All but
// strip are flags of a store, without the hyphen.
func parseRoute(key, where string, storages []Storage) (route, error) {
	r := route{key: key}
	storages = slices.Clone(storages)
	for i := range storages {
		storages[i].Define = nil // these flags are those of the program
	}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&r.strip, "strip", false, "")
	r.store.define(flags, storages)
	var args []string
	for i, setting := range strings.Split(where, ";") {
		if i == 0 {
			kind, value, ok := strings.Cut(setting, ":")
			switch {
			case !ok || kind == "":
				return r, errors.New("it leads nowhere; say where in the form of dir:path")
			case kind == "mem" && value == "":
				setting = kind
			default:
				setting = kind + "=" + value
			}
		}
		args = append(args, "-"+setting)
	}
	if err := flags.Parse(args); err != nil {
		return r, err
	}
	return r, r.choose(flags)
}

// backend is what the program serves.
type backend struct {
	Opened
	namespaces map[string]ociregistry.Interface
	collectors []ocigc.Collector
	closers    []io.Closer
}

// open opens all that is to be served. Problems are logged to logger, and changes by a mirror
// to changes.
func (cfg config) open(ctx context.Context, logger, changes *slog.Logger) (_ *backend, err error) {
	b := &backend{namespaces: make(map[string]ociregistry.Interface)}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	add := func(st store) (*Opened, error) {
		opened, err := st.open(ctx, logger, changes)
		if err != nil {
			return nil, err
		}
		b.closers = append(b.closers, opened)
		if collector, ok := opened.Registry.(ocigc.Collector); ok && st.collects() {
			b.collectors = append(b.collectors, collector)
		}
		limited, err := st.quotas.over(opened.Registry)
		return &Opened{Registry: borrowed{limited}, Redirect: opened.Redirect}, err
	}
	for _, ns := range cfg.namespaces {
		opened, err := add(ns.store)
		if err != nil {
			return nil, fmt.Errorf("-ns %s: %w", ns.key, err)
		}
		b.namespaces[ns.key] = opened
	}
	var routes routed
	for _, r := range cfg.routes {
		opened, err := add(r.store)
		if err != nil {
			return nil, fmt.Errorf("-route %s/: %w", r.key, err)
		}
		routes.add(r.key, r.strip, opened)
	}
	if !cfg.onlyRoutes {
		opened, err := add(cfg.store)
		if err != nil {
			return nil, err
		}
		routes.add("", false, opened)
	}
	b.Opened, err = routes.join()
	return b, err
}

// Close closes all that was opened.
func (b *backend) Close() error {
	var errs []error
	for _, c := range b.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// namespace is the Namespace of [ociserver.Options].
func (b *backend) namespace(host string) (ociregistry.Interface, bool) {
	reg, ok := b.namespaces[host]
	return reg, ok
}

// routed is registries that are to be one.
type routed struct {
	routes    []ociunify.Route
	redirects []redirect // those of the routes
}

type redirect func(ctx context.Context, repo string, digest ociregistry.Digest) (location string, expires time.Time, err error)

// add adds what is below a prefix, or without one all the rest.
func (r *routed) add(prefix string, strip bool, opened *Opened) {
	var reg ociregistry.Interface = opened.Registry
	to := redirect(opened.Redirect)
	if strip {
		reg = ocifilter.Under(reg, prefix)
	}
	if strip && to != nil {
		inner := to
		to = func(ctx context.Context, repo string, digest ociregistry.Digest) (string, time.Time, error) {
			name, ok := strings.CutPrefix(repo, prefix+"/")
			if !ok {
				return "", time.Time{}, ociregistry.ErrNameUnknown
			}
			return inner(ctx, name, digest)
		}
	}
	r.routes = append(r.routes, ociunify.Route{Prefix: prefix, Registry: reg})
	r.redirects = append(r.redirects, to)
}

// join returns the registries as one.
func (r *routed) join() (Opened, error) {
	if len(r.routes) == 1 && r.routes[0].Prefix == "" {
		return Opened{Registry: borrowed{r.routes[0].Registry}, Redirect: r.redirects[0]}, nil
	}
	reg, err := ociunify.Routes(r.routes)
	if err != nil {
		return Opened{}, fmt.Errorf("-route: %w", err)
	}
	opened := Opened{Registry: borrowed{reg}}
	for _, to := range r.redirects {
		if to != nil {
			opened.Redirect = r.redirect
		}
	}
	return opened, nil
}

// redirect is that of the route of a repository.
func (r *routed) redirect(ctx context.Context, repo string, digest ociregistry.Digest) (string, time.Time, error) {
	i := ociunify.RouteOf(r.routes, repo)
	if i < 0 || r.redirects[i] == nil {
		return "", time.Time{}, nil
	}
	return r.redirects[i](ctx, repo, digest)
}

// borrowed is a registry that somebody else closes.
type borrowed struct{ ociregistry.Interface }

func (borrowed) Close() error { return nil }
