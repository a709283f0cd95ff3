package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// bufferSize is the size of a client's buffer for what it pulls.
const bufferSize = 1 << 20

// sample is what one server did in one row and round.
type sample struct {
	Row    string `json:"row"`
	Server string `json:"server"`
	Round  int    `json:"round"`

	// Of all operations together; client and server are told apart.
	Ops       int           `json:"ops"`
	Wall      time.Duration `json:"wall_ns"`
	CPU       time.Duration `json:"server_cpu_ns"`
	ClientCPU time.Duration `json:"client_cpu_ns"`
	Allocs    uint64        `json:"server_allocs"`
	Bytes     uint64        `json:"server_alloc_bytes"`

	ClientAllocs uint64 `json:"client_allocs"`

	Peak int64 `json:"peak_bytes"` // resident in the server

	// What went to the store, of servers that have one.
	Requests   map[string]int `json:"store_requests,omitempty"`
	StoreBytes int64          `json:"store_bytes,omitempty"`
}

// measurer takes the samples of a row.
type measurer struct {
	row
	work    work // for the warm-up too
	fleet   *fleet
	profile string
}

func newMeasurer(r row, cfg *config, f *fleet) *measurer {
	return &measurer{
		row:     r,
		work:    r.work(r.ops + warmUp(r.ops)),
		fleet:   f,
		profile: cfg.profile,
	}
}

// warmUp returns the number of operations before the measured ones.
func warmUp(ops int) int { return ops / 20 }

// measure returns a sample. It is nil if there is nothing to measure.
func (m *measurer) measure(ctx context.Context, s server, round int) (*sample, error) {
	if s.open == nil {
		return m.hash(s, round)
	}
	p, err := m.fleet.get(ctx, s, m.stock)
	if err != nil {
		return nil, err
	}
	sample, err := m.sample(ctx, s, p, round)
	if stopErr := m.fleet.put(p); err == nil && stopErr != nil {
		return nil, fmt.Errorf("stop: %w", stopErr)
	}
	return sample, err
}

func (m *measurer) profileName(s server, round int) string {
	if m.profile == "" {
		return ""
	}
	name := strings.NewReplacer("/", "_", "=", "-").Replace(m.name)
	return must(filepath.Abs(filepath.Join(m.profile, fmt.Sprintf("%s.%s.%d", name, s.name, round))))
}

func (m *measurer) sample(ctx context.Context, s server, p *process, round int) (*sample, error) {
	if !m.cold {
		if err := m.work.prepare(m.fleet.client(ctx, p), s); err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
	}
	if m.opening {
		p.slow(m.delay)
	}
	if m.restart {
		m.fleet.http.CloseIdleConnections()
		if err := p.restart(ctx); err != nil {
			return nil, fmt.Errorf("restart: %w", err)
		}
	}
	clients := make([]*client, m.clients)
	for i := range clients {
		clients[i] = m.fleet.client(ctx, p)
		if s.library == nil {
			continue
		}
		t := newTransport()
		defer t.CloseIdleConnections()
		var err error
		if clients[i].lib, err = s.library(p.Addr, t); err != nil {
			return nil, err
		}
	}
	ops := m.opsOn(s)
	warm := warmUp(ops)
	if m.cold || m.restart {
		warm = 0
	}
	first := 0
	if m.stock != nil && m.stock.once() {
		first = round * (ops + warm)
	}
	if _, err := m.run(ops, warm, m.scale.limit/10, func(worker, i int) error {
		return m.work.do(clients[worker], first+i)
	}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}

	before, err := m.reset(s, p, round)
	if err != nil {
		return nil, err
	}
	clientBefore, err := ownUsage()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	done, err := m.run(0, ops, m.scale.limit, func(worker, i int) error {
		return m.work.do(clients[worker], first+i)
	})
	wall := time.Since(start)
	if m.opening {
		wall += p.Opening
	}
	if err != nil {
		return nil, err
	}
	clientAfter, err := ownUsage()
	if err != nil {
		return nil, err
	}
	if m.grows {
		if err := m.settle(s, p); err != nil {
			return nil, err
		}
	}
	after, err := p.usage()
	if err != nil {
		return nil, err
	}
	stored := p.slow(0)
	return &sample{
		Row:       m.name,
		Server:    s.name,
		Round:     round,
		Ops:       done,
		Wall:      wall,
		CPU:       after.CPU - before.CPU,
		ClientCPU: clientAfter.CPU - clientBefore.CPU,
		Allocs:    after.Allocs - before.Allocs,
		Bytes:     after.Bytes - before.Bytes,
		Peak:      after.Peak,

		ClientAllocs: clientAfter.Allocs - clientBefore.Allocs,

		Requests:   stored.requests,
		StoreBytes: stored.bytes,
	}, nil
}

// reset has the process begin to measure, and returns what it has used until
// then.
func (m *measurer) reset(s server, p *process, round int) (usage, error) {
	if m.opening {
		return p.Before, nil
	}
	if err := m.settle(s, p); err != nil {
		return usage{}, err
	}
	before, err := p.reset(m.profileName(s, round))
	p.slow(m.delay)
	return before, err
}

// settle waits until a server on disk rests, and nothing is left to be written.
// Some put off a part of their work until there is a pause.
func (m *measurer) settle(s server, p *process) error {
	if s.storage == inMemory || m.scale.rest == 0 {
		return nil
	}
	var last time.Duration
	for i := range 50 {
		u, err := p.peek()
		if err != nil {
			return err
		}
		if i > 0 && u.CPU-last <= m.scale.rest/50 {
			break
		}
		last = u.CPU
		time.Sleep(m.scale.rest)
	}
	if s.storage != inBucket {
		syscall.Sync()
	}
	return nil
}

// hash measures the hashing of the row's content, in this process.
func (m *measurer) hash(s server, round int) (*sample, error) {
	if m.work.hash == nil {
		return nil, nil
	}
	before, err := ownUsage()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	done, _ := m.run(0, m.ops, m.scale.limit, func(_, i int) error {
		m.work.hash(i)
		return nil
	})
	wall := time.Since(start)
	after, err := ownUsage()
	if err != nil {
		return nil, err
	}
	return &sample{Row: m.name, Server: s.name, Round: round, Ops: done, Wall: wall, CPU: after.CPU - before.CPU}, nil
}

// run does n operations from first on, as many at a time as the row has
// clients, and returns how many it has done. If they change nothing, each
// client does one, and starts none after the limit.
func (m *measurer) run(first, n int, limit time.Duration, do func(worker, i int) error) (done int, err error) {
	start := time.Now()
	return inParallel(m.clients, n, func(worker, i int) error {
		if i >= m.clients && !m.grows && time.Since(start) > limit {
			return errEnough
		}
		return do(worker, first+i)
	})
}

// errEnough ends a worker, and is no failure.
var errEnough = errors.New("enough")

// inParallel does the operations from 0 to n-1, as many at a time as there are
// workers, and returns how many it has done. A worker ends at its first error;
// one of these errors is returned.
func inParallel(workers, n int, do func(worker, i int) error) (done int, err error) {
	var (
		wg    sync.WaitGroup
		next  atomic.Int64
		did   atomic.Int64
		fails = make(chan error, workers)
	)
	for worker := range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(worker, i); err != nil {
					if err != errEnough {
						fails <- err
					}
					return
				}
				did.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-fails:
		return 0, err
	default:
		return int(did.Load()), nil
	}
}
