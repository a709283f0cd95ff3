package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// fleet starts servers, and keeps those that took long to prepare.
type fleet struct {
	dir   string // where the servers' directories are made
	http  *http.Client
	store *store // has the buckets; nil until there is one

	stock stock // of the kept ones
	kept  map[string]*kept
}

// stock is what servers have before a row's work is prepared.
type stock interface {
	push(c *client) error

	// once says that it is pushed once for all rows that have it, and all of their
	// samples.
	once() bool
}

// kept is a server that rows share, or why there is none.
type kept struct {
	server  server
	process *process
	err     error
}

func newFleet(dir string) *fleet {
	return &fleet{dir: dir, http: newHTTPClient(), kept: make(map[string]*kept)}
}

// get returns a server that has a stock, which may be nil. It ends when it is
// put back, unless the stock is pushed once.
func (f *fleet) get(ctx context.Context, s server, st stock) (*process, error) {
	if st == nil || !st.once() {
		return f.start(ctx, s, st)
	}
	if f.stock != st {
		if err := f.end(); err != nil {
			return nil, err
		}
		f.stock = st
	}
	k := f.kept[s.name]
	if k == nil {
		k = &kept{server: s}
		k.process, k.err = f.start(ctx, s, st)
		f.kept[s.name] = k
	}
	return k.process, k.err
}

func (f *fleet) start(ctx context.Context, s server, st stock) (*process, error) {
	p, err := f.startEmpty(ctx, s)
	if err != nil {
		return nil, err
	}
	if st == nil || s.limit {
		return p, nil
	}
	if err := st.push(f.client(ctx, p)); err != nil {
		f.http.CloseIdleConnections()
		return nil, errors.Join(fmt.Errorf("push stock: %w", err), p.stop())
	}
	return p, nil
}

func (f *fleet) startEmpty(ctx context.Context, s server) (*process, error) {
	if s.storage != inBucket {
		return start(ctx, s, f.dir, nil)
	}
	if f.store == nil {
		var err error
		if f.store, err = openStore(f.dir); err != nil {
			return nil, err
		}
	}
	return start(ctx, s, f.store.dir, f.store)
}

func (f *fleet) client(ctx context.Context, p *process) *client {
	c := &client{ctx: ctx, http: f.http, base: "http://" + p.Addr, path: repoPath, buf: make([]byte, bufferSize)}
	if p.Reads != "" {
		c.reads = "http://" + p.Reads
	}
	return c
}

// put takes a server back.
func (f *fleet) put(p *process) error {
	p.slow(0)
	f.http.CloseIdleConnections()
	for _, k := range f.kept {
		if k.process == p {
			return nil
		}
	}
	return p.stop()
}

// end ends the kept servers. What others of them do at their end is their own
// affair.
func (f *fleet) end() error {
	var errs []error
	for _, k := range f.kept {
		if k.process == nil {
			continue
		}
		if err := k.process.stop(); k.server.against == "" {
			errs = append(errs, err)
		}
	}
	f.stock = nil
	clear(f.kept)
	return errors.Join(errs...)
}

// close ends what there is.
func (f *fleet) close() error {
	err := f.end()
	if f.store != nil {
		err = errors.Join(err, f.store.close())
	}
	return err
}
