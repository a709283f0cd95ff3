package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

	Peak int64 `json:"peak_bytes"` // resident in the server
}

// measurer takes the samples of a row.
type measurer struct {
	row
	work    work
	warm    int // operations before the measured ones
	http    *http.Client
	profile string
}

func newMeasurer(r row, cfg *config) *measurer {
	warm := r.ops / 20
	return &measurer{
		row:     r,
		warm:    warm,
		work:    r.work(r.ops + warm),
		http:    newHTTPClient(),
		profile: cfg.profile,
	}
}

// measure returns a sample. It is nil if there is nothing to measure.
func (m *measurer) measure(ctx context.Context, s server, round int) (*sample, error) {
	if s.open == nil {
		return m.hash(s, round)
	}
	p, err := start(ctx, s, m.profileName(s, round))
	if err != nil {
		return nil, err
	}
	sample, err := m.sample(ctx, s, p, round)
	m.http.CloseIdleConnections()
	if stopErr := p.stop(); err == nil && stopErr != nil {
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
	newClient := func() *client {
		return &client{ctx: ctx, http: m.http, base: "http://" + p.addr, buf: make([]byte, bufferSize)}
	}
	if err := m.work.prepare(newClient(), s); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	clients := make([]*client, m.clients)
	for i := range clients {
		clients[i] = newClient()
	}
	if _, err := m.run(m.ops, m.warm, m.scale.limit/10, func(worker, i int) error {
		return m.work.do(clients[worker], i)
	}); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}

	before, err := p.reset()
	if err != nil {
		return nil, err
	}
	clientBefore, err := ownUsage()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	done, err := m.run(0, m.ops, m.scale.limit, func(worker, i int) error {
		return m.work.do(clients[worker], i)
	})
	wall := time.Since(start)
	if err != nil {
		return nil, err
	}
	after, err := p.usage()
	if err != nil {
		return nil, err
	}
	clientAfter, err := ownUsage()
	if err != nil {
		return nil, err
	}
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
	}, nil
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
	var (
		wg    sync.WaitGroup
		next  atomic.Int64
		did   atomic.Int64
		fails = make(chan error, m.clients)
		start = time.Now()
	)
	for worker := range m.clients {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || i >= m.clients && !m.grows && time.Since(start) > limit {
					return
				}
				if err := do(worker, first+i); err != nil {
					fails <- err
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
