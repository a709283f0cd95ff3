package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// fleet starts servers, and keeps those that took long to prepare.
type fleet struct {
	dir  string // where the servers' directories are made
	http *http.Client

	repo *tagged // of the kept ones
	kept map[string]*kept
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

// get returns a server that has the content of a repository, which may be nil.
// It ends when it is put back, unless the repository is shared.
func (f *fleet) get(ctx context.Context, s server, repo *tagged) (*process, error) {
	if repo == nil || !repo.shared {
		return f.start(ctx, s, repo)
	}
	if f.repo != repo {
		if err := f.end(); err != nil {
			return nil, err
		}
		f.repo = repo
	}
	k := f.kept[s.name]
	if k == nil {
		k = &kept{server: s}
		k.process, k.err = f.start(ctx, s, repo)
		f.kept[s.name] = k
	}
	return k.process, k.err
}

func (f *fleet) start(ctx context.Context, s server, repo *tagged) (*process, error) {
	p, err := start(ctx, s, f.dir)
	if err != nil {
		return nil, err
	}
	if repo == nil || s.limit {
		return p, nil
	}
	if err := repo.push(f.client(ctx, p)); err != nil {
		f.http.CloseIdleConnections()
		return nil, errors.Join(fmt.Errorf("push tags: %w", err), p.stop())
	}
	return p, nil
}

func (f *fleet) client(ctx context.Context, p *process) *client {
	return &client{ctx: ctx, http: f.http, base: "http://" + p.addr, path: repoPath, buf: make([]byte, bufferSize)}
}

// put takes a server back.
func (f *fleet) put(p *process) error {
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
	f.repo = nil
	clear(f.kept)
	return errors.Join(errs...)
}
