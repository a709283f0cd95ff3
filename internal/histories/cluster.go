package histories

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// cluster is the servers of one registry.
type cluster struct {
	lingers bool // as in Backend

	mu      sync.Mutex
	servers []*life // nil in the place of one that is not there at the moment
}

// life is a server from a start to an end.
type life struct {
	name string // "1.2" is the second life of the first server
	host string // host:port
	proc *process
}

// at returns a server, or nil if it is not there.
func (c *cluster) at(i int) *life {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers[i]
}

func (c *cluster) set(i int, l *life) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[i] = l
}

// nothingAfter returns when nothing can come any more of what a server was asked
// for, if that is known because it has died.
func (c *cluster) nothingAfter(l *life) (at time.Time, dead bool) {
	if l.proc == nil || c.lingers {
		return at, false
	}
	select {
	case <-l.proc.died:
		return l.proc.at, true
	default:
		return at, false
	}
}

// processes is a cluster of processes that can be ended and started again.
type processes struct {
	*cluster
	command func(i int) []string
	lives   []int // how many each server has had
}

// startProcesses starts n processes of a backend on one directory.
func startProcesses(b Backend, dir string, n int) (*processes, error) {
	p := &processes{&cluster{lingers: b.Lingers, servers: make([]*life, n)}, func(i int) []string { return b.Command(dir, i) }, make([]int, n)}
	for i := range n {
		if err := p.start(i); err != nil {
			p.stopAll()
			return nil, err
		}
	}
	return p, nil
}

func (p *processes) start(i int) error {
	proc, err := startProcess(p.command(i))
	if err != nil {
		return err
	}
	p.lives[i]++
	p.set(i, &life{fmt.Sprintf("%d.%d", i+1, p.lives[i]), proc.host, proc})
	return nil
}

// stopAll lets all processes end, and returns an error if one does not end well.
func (p *processes) stopAll() (err error) {
	for i := range p.servers {
		if l := p.at(i); l != nil {
			p.set(i, nil)
			if stopErr := l.proc.stop(); stopErr != nil {
				err = stopErr
			}
		}
	}
	return err
}

// check returns an error if a process has died by itself.
func (p *processes) check() error {
	for i := range p.servers {
		l := p.at(i)
		select {
		case <-l.proc.died:
			return fmt.Errorf("server %s died: %w: %s", l.name, l.proc.err, l.proc.log.String())
		default:
		}
	}
	return nil
}

// logs returns the last of what the processes have logged.
func (p *processes) logs() string {
	var b strings.Builder
	for i := range p.servers {
		if l := p.at(i); l != nil {
			fmt.Fprintf(&b, "server %s:\n%s\n", l.name, l.proc.log.String())
		}
	}
	return b.String()
}

// fault is what happens to some servers.
type fault struct {
	after   int           // so many operations of the round
	wait    time.Duration // and then so long
	servers []int
	how     func(*process) error
}

// kill ends a process at any instant.
func kill(p *process) error {
	p.kill()
	return nil
}

// interrupt lets a process finish what it is doing.
func interrupt(p *process) error { return p.stop() }

// suffer does to servers what a fault is, and starts them again.
func (p *processes) suffer(ctx context.Context, f fault) error {
	select {
	case <-time.After(f.wait):
	case <-ctx.Done():
		return nil
	}
	for _, i := range f.servers {
		l := p.at(i)
		if err := f.how(l.proc); err != nil {
			return fmt.Errorf("server %s: %w", l.name, err)
		}
		p.set(i, nil)
	}
	for _, i := range f.servers {
		if err := p.start(i); err != nil {
			return err
		}
	}
	return nil
}
