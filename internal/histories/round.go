package histories

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// plan is how a round goes.
type plan struct {
	seed    uint64
	number  int // of the round
	clients int
	ops     int // of each
	repos   []string
	idle    int     // the server that is asked nothing before the end, or -1
	breaks  int     // so many requests of 100 are broken off by their clients
	faults  []fault // in order
	pause   time.Duration
}

// round is a history that is being made.
type round struct {
	plan
	*recorder
	client *client
	faulty *processes   // nil if there are no faults
	done   atomic.Int64 // operations
}

// run makes a history, which begins with empty repositories, and ends with reads of
// all that there is at every server.
func (p plan) run(ctx context.Context, c *cluster, faulty *processes) ([]*Event, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: p.clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	r := &round{
		plan:     p,
		recorder: newRecorder(c),
		faulty:   faulty,
		client: &client{
			http:     &http.Client{Transport: transport},
			universe: newUniverse(p.seed<<20 + uint64(p.number)/2), // the next round has the same
			prefix:   fmt.Sprintf("h%d-%d", p.seed, p.number),
			sessions: newSessions(),
		},
	}
	if err := r.fillFixed(ctx); err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	for i := range p.clients {
		all.Go(func() { r.act(ctx, i) })
	}
	err := r.strike(ctx)
	all.Wait()
	if err != nil {
		return nil, err
	}
	r.readAll(ctx)
	return r.finish(), ctx.Err()
}

// fillFixed pushes what nobody changes.
func (r *round) fillFixed(ctx context.Context) error {
	for _, name := range fixedBlobs {
		op := &Op{Do: pushBlob, Repository: fixedRepo, Blob: name}
		if out, _ := r.client.do(ctx, r.cluster.at(0).host, op, whole); !out.isSuccess() {
			return fmt.Errorf("%v: %v", op, out)
		}
	}
	return nil
}

// act is a client.
func (r *round) act(ctx context.Context, i int) {
	g := &generator{
		Rand:     rand.New(rand.NewPCG(r.seed, uint64(r.number)<<8+uint64(i))),
		repos:    r.repos,
		sessions: r.client.sessions,
		seen:     make(map[[2]string]string),
	}
	for n := range r.ops {
		if r.pause > 0 && n == r.ops/2 {
			time.Sleep(r.pause)
		}
		op := g.next()
		l := r.choose(g.Rand)
		how := whole
		if g.often(r.breaks) {
			how = pick(g.Rand, []manner{cutOff, hangUp})
		}
		if l != nil {
			g.saw(op, r.ask(ctx, i, l, op, how))
		}
		r.done.Add(1)
	}
}

// choose returns one of the servers that are there and not idle.
func (r *round) choose(g *rand.Rand) *life {
	n := len(r.cluster.servers)
	i := g.IntN(n)
	for range n {
		if l := r.cluster.at(i); l != nil && i != r.idle {
			return l
		}
		i = (i + 1) % n
	}
	return nil
}

// ask carries out an operation, and writes down what came of it.
func (r *round) ask(ctx context.Context, i int, l *life, op *Op, how manner) Outcome {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	call := r.now()
	out, sent := r.client.do(ctx, l.host, op, how)
	if sent {
		r.add(&Event{Client: i, Server: l.name, Call: call, Return: r.now(), Op: *op, Outcome: out}, l)
	}
	return out
}

// strike lets the faults happen, each in its time.
func (r *round) strike(ctx context.Context) error {
	for _, f := range r.faults {
		for int(r.done.Load()) < f.after {
			time.Sleep(100 * time.Microsecond)
		}
		if err := r.faulty.suffer(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads all that there is, at every server.
func (r *round) readAll(ctx context.Context) {
	for i := range r.cluster.servers {
		l := r.cluster.at(i)
		read := func(op *Op) { r.ask(ctx, r.clients+i, l, op, whole) }
		read(&Op{Do: listCatalog, N: 50})
		for _, repo := range r.repos {
			read(&Op{Do: listTags, Repository: repo})
			read(&Op{Do: listReferrers, Repository: repo})
			for _, tag := range tagNames {
				read(&Op{Do: getTag, Repository: repo, Tag: tag})
			}
			for _, kind := range manifestKinds {
				read(&Op{Do: getManifest, Repository: repo, Manifest: kind.name})
			}
			for _, name := range blobNames {
				read(&Op{Do: getBlob, Repository: repo, Blob: name})
			}
			for n := range r.client.sessions.numbers(repo) {
				read(&Op{Do: askUpload, Repository: repo, Session: n + 1})
			}
		}
	}
}

// manner is how a client makes a request.
type manner int

const (
	whole  manner = iota
	cutOff        // it sends half of the body, and breaks the connection
	hangUp        // it sends all, and does not wait for the answer
)

// hangUpTime is about how long a client waits that hangs up.
const hangUpTime = 2 * time.Millisecond

var errCutOff = errors.New("cut off")

// halfBody is a body that breaks off.
type halfBody struct{ io.Reader }

func (h halfBody) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if err == io.EOF {
		err = errCutOff
	}
	return n, err
}
func (h halfBody) Close() error { return nil }
