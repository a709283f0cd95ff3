package ocibucket

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/memstore"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

var (
	simSeeds = flag.Uint64("simulation.seeds", 100, "how many seeds the simulations run")
	simFirst = flag.Uint64("simulation.first", 1, "their first seed")
)

// A simulation is several processes over one bucket whose requests fail, are lost, late, repeated
// and slow, with clients that know what they were told. Processes are killed, and sleep for
// hours, by a clock that is not real.
type simulation struct {
	t     *testing.T
	seed  uint64
	store *memstore.Store
	opts  Options

	mu        sync.Mutex
	faulty    bool
	fault     func(memstore.Request) memstore.Fault
	rnd       *rand.Rand
	processes []*Registry
	images    []*ocitest.Artifact
	problems  []string
}

const simProcesses = 3

// simLogs are different ways to read a log, of which records here have some hundred bytes: by few records and many
// snapshots, by records that carry little, and so on.
var simLogs = []struct{ minTail, maxCarried int64 }{{}, {1000, 2000}, {2000, 500}, {1, 100_000}, {5000, 1}}

func newSimulation(t *testing.T, seed uint64, opts Options) *simulation {
	s := &simulation{t: t, seed: seed, opts: opts, rnd: rand.New(rand.NewPCG(seed, 1)), faulty: seed%4 != 0}
	s.fault = memstore.Random(seed, memstore.Rates{
		Throttled: 0.02, Conflict: 0.02, Temporary: 0.02, Lost: 0.03, Late: 0.02, Twice: 0.02, Again: 0.02, Break: 0.02, MaxDelay: 40 * time.Millisecond,
	})
	s.store = memstore.New(&memstore.Options{Fault: s.request, PageSize: 3, NoDeleteIfMatch: seed%3 == 0})
	for range simProcesses {
		s.processes = append(s.processes, s.start())
	}
	for i := range 3 {
		s.images = append(s.images, ocitest.NewImage(ocitest.Spec{Seed: uint64(i), Layers: []int64{100, 70_000}}))
	}
	return s
}

// request decides what happens to a request. Late writes land before some others.
func (s *simulation) request(req memstore.Request) memstore.Fault {
	s.mu.Lock()
	faulty, land := s.faulty, s.rnd.IntN(20) == 0
	s.mu.Unlock()
	if land {
		s.store.Land(func(memstore.Request) bool { return s.chance(3) })
	}
	f := s.fault(req)
	if !faulty {
		f = memstore.Fault{Delay: f.Delay}
	}
	return f
}

// chance is true once in n times.
func (s *simulation) chance(n int) bool { return s.intn(n) == 0 }

func (s *simulation) intn(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rnd.IntN(n)
}

func (s *simulation) start() *Registry {
	for {
		log := simLogs[s.seed/3%uint64(len(simLogs))]
		r, err := open(s.t.Context(), s.store, &s.opts, settings{
			grace: defaultGrace, retry: &objstore.RetryOptions{Attempts: 3, MaxDelay: time.Second}, minTail: log.minTail, maxCarried: log.maxCarried,
		})
		if err == nil {
			return r
		}
	}
}

// process returns a process, which may be killed before.
func (s *simulation) process() *Registry {
	i := s.intn(simProcesses)
	s.mu.Lock()
	r := s.processes[i]
	s.mu.Unlock()
	if s.chance(40) {
		next := s.start()
		s.mu.Lock()
		s.processes[i] = next
		s.mu.Unlock()
		r.Close()
		return next
	}
	return r
}

func (s *simulation) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// refused are the errors after which nothing has happened, and will not.
var refused = []error{
	ociregistry.ErrManifestBlobUnknown, ociregistry.ErrInUse, ociregistry.ErrDenied, ociregistry.ErrPreconditionFailed, ociregistry.ErrManifestUnknown,
	ociregistry.ErrNameUnknown, ociregistry.ErrBlobUnknown,
}

func isRefused(err error) bool {
	return !errors.Is(err, objstore.ErrUnclear) && slices.ContainsFunc(refused, func(e error) bool { return errors.Is(err, e) })
}

// nap lets time pass, mostly little.
func (s *simulation) nap() {
	d := time.Duration(s.intn(100)) * time.Millisecond
	if s.chance(30) {
		d = time.Duration(s.intn(30)) * time.Hour
	}
	time.Sleep(d)
}

// run runs clients until all are done, and then checks what is left with a new process and without faults.
func (s *simulation) run(clients []func(context.Context), check func(context.Context, *Registry)) {
	ctx := s.t.Context()
	var wg sync.WaitGroup
	for _, client := range clients {
		wg.Go(func() { client(ctx) })
	}
	wg.Wait()
	s.mu.Lock()
	s.faulty = false
	s.mu.Unlock()
	for s.store.Land(func(memstore.Request) bool { return true }); s.chance(2); {
		s.store.Land(func(memstore.Request) bool { return true })
	}
	r := s.start()
	check(ctx, r)
	if !r.opts.Sparse {
		s.verify(ctx, r)
	}
	r.Close()
	for _, p := range s.processes {
		p.Close()
	}
	for _, problem := range s.problems {
		s.t.Errorf("seed %d: %s", s.seed, problem)
	}
}

// verify checks that a registry finds nothing damaged or missing in the bucket, which others may use
// meanwhile.
func (s *simulation) verify(ctx context.Context, r *Registry) {
	for p, err := range r.Verify(ctx) {
		if err == nil && (errors.Is(p.Err, ErrDamaged) || errors.Is(p.Err, ErrMissing)) {
			s.problem("Verify: %v", p)
		}
	}
}

// verifier calls Verify now and then.
func (s *simulation) verifier(ctx context.Context) {
	for range 6 {
		s.nap()
		s.verify(ctx, s.process())
	}
}

// A tagger moves two tags together, and knows what they may point at.
type tagger struct {
	*simulation
	repo string
	tags [2]string
	may  map[digest.Digest]bool // "" for none
}

func (c *tagger) client(ctx context.Context) {
	for range 8 {
		c.nap()
		switch c.intn(6) {
		case 0:
			c.look(ctx, c.process())
		case 1:
			c.deleteTag(ctx)
		default:
			c.push(ctx)
		}
	}
}

func (c *tagger) push(ctx context.Context) {
	a := c.images[c.intn(len(c.images))]
	r := c.process()
	for _, b := range a.Blobs {
		if !c.chance(4) { // else it may be there
			r.PushBlob(ctx, c.repo, b.Descriptor, b.NewReader())
		}
	}
	_, err := c.process().PushManifest(ctx, c.repo, "", a.Manifest, a.Descriptor.MediaType, c.tags[:]...)
	switch {
	case err == nil:
		c.may = map[digest.Digest]bool{a.Descriptor.Digest: true}
	case !isRefused(err):
		c.may[a.Descriptor.Digest] = true
	}
}

// deleteTag deletes both tags, one after the other.
func (c *tagger) deleteTag(ctx context.Context) {
	for _, tag := range c.tags {
		for range 50 {
			err := c.process().DeleteTag(ctx, c.repo, tag)
			if err == nil || isRefused(err) {
				break
			}
		}
	}
	c.may = map[digest.Digest]bool{"": true}
}

// look checks that both tags are as they may be.
func (c *tagger) look(ctx context.Context, r *Registry) {
	var found [2]digest.Digest
	for i, tag := range c.tags {
		desc, err := r.ResolveTag(ctx, c.repo, tag)
		if err != nil && !isRefused(err) {
			return
		}
		found[i] = desc.Digest
		if !c.may[desc.Digest] {
			c.problem("%s of %s is %q, of %v", tag, c.repo, desc.Digest, c.may)
		}
	}
	c.mu.Lock()
	last := !c.faulty
	c.mu.Unlock()
	if last && found[0] != found[1] {
		c.problem("tags of one push differ in %s: %q and %q", c.repo, found[0], found[1])
	}
}

// deleter deletes what taggers use.
func (s *simulation) deleter(ctx context.Context) {
	for range 12 {
		s.nap()
		a := s.images[s.intn(len(s.images))]
		b := a.Blobs[s.intn(len(a.Blobs))]
		repo := []string{"a", "b"}[s.intn(2)]
		switch s.intn(4) {
		case 0:
			s.process().MountBlob(ctx, "a", "b", b.Descriptor.Digest)
		default:
			s.process().DeleteBlob(ctx, repo, b.Descriptor.Digest)
		}
	}
}

// uploader uploads a blob that nobody else has, by calls to several processes.
func (s *simulation) uploader(ctx context.Context, n int, want func(repo string, b ocitest.Blob)) {
	size := []int64{100, 60_000, 300_000, 900_000}[n%4]
	b := ocitest.NewBlob(uint64(1000+n), size)
	repo := []string{"a", "b"}[n%2]
	data := b.Bytes()
	id := ""
	for range 60 {
		s.nap()
		r := s.process()
		if id == "" {
			if w, err := r.PushBlobChunked(ctx, repo, 0); err == nil {
				id = w.ID()
				w.Close()
			}
			continue
		}
		w, err := r.PushBlobChunkedResume(ctx, repo, id, -1, 0)
		if err != nil {
			if isRefused(err) || errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
				id = ""
			}
			continue
		}
		offset := w.Size()
		end := min(offset+int64(s.intn(400_000)), size)
		if _, err := w.Write(data[offset:end]); err != nil || end < size || s.chance(3) {
			w.Close()
			continue
		}
		_, err = w.Commit(b.Descriptor.Digest)
		w.Close()
		if err == nil {
			want(repo, b)
			return
		}
		if errors.Is(err, ociregistry.ErrDigestInvalid) {
			s.problem("an upload has other bytes than were written")
		}
	}
}

// wantWhole checks that all manifests of a repository are whole, and that no tag dangles.
func (s *simulation) wantWhole(ctx context.Context, r *Registry, repo string) {
	tags, err := ociregistry.All(r.Tags(ctx, repo, ""))
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		return
	}
	if err != nil {
		s.problem("tags of %s: %v", repo, err)
	}
	for _, tag := range tags {
		desc, err := r.ResolveTag(ctx, repo, tag)
		if err != nil {
			s.problem("%s of %s: %v", tag, repo, err)
			continue
		}
		i := slices.IndexFunc(s.images, func(a *ocitest.Artifact) bool { return a.Descriptor.Digest == desc.Digest })
		if i < 0 {
			continue
		}
		if err := s.images[i].Verify(ctx, r, repo); err != nil {
			s.problem("%s of %s: %v", tag, repo, err)
		}
	}
}

// wantBlob checks that a blob is there.
func (s *simulation) wantBlob(ctx context.Context, r *Registry, repo string, b ocitest.Blob) {
	rd, err := r.GetBlob(ctx, repo, b.Descriptor.Digest)
	if err != nil {
		s.problem("a blob of %s is lost: %v", repo, err)
		return
	}
	defer rd.Close()
	if got, err := io.ReadAll(rd); err != nil || !bytes.Equal(got, b.Bytes()) {
		s.problem("a blob of %s has other bytes: %v", repo, err)
	}
}

// wantListed checks that the repositories that have content are listed, and no others.
func (s *simulation) wantListed(ctx context.Context, r *Registry) {
	listed, err := ociregistry.All(r.Repositories(ctx, ""))
	if err != nil {
		s.problem("repositories: %v", err)
	}
	for _, name := range []string{"a", "b"} {
		repo := r.repos.Open(name)
		exists, err := r.blobs.Exists(ctx, repo)
		repo.Release()
		if err != nil || exists != slices.Contains(listed, name) {
			s.problem("%s has content: %v (%v); listed are %v", name, exists, err, listed)
		}
	}
}

// eachSeed runs a simulation for one in so many of the seeds.
func eachSeed(t *testing.T, oneIn uint64, run func(t *testing.T, seed uint64)) {
	t.Parallel()
	seeds := max(*simSeeds/oneIn, 1)
	if testing.Short() {
		seeds = min(seeds, 10)
	}
	for seed := *simFirst; seed < *simFirst+seeds && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { run(t, seed) })
	}
}

func TestSimulation_NothingThatWasAcknowledgedIsLost(t *testing.T) {
	eachSeed(t, 1, func(t *testing.T, seed uint64) {
		s := newSimulation(t, seed, Options{PartSize: minPartSize})
		var taggers []*tagger
		var clients []func(context.Context)
		for i := range 4 {
			c := &tagger{s, []string{"a", "b"}[i%2], [2]string{fmt.Sprintf("t%d", i), fmt.Sprintf("u%d", i)}, map[digest.Digest]bool{"": true}}
			taggers = append(taggers, c)
			clients = append(clients, c.client)
		}
		type upload struct {
			repo string
			blob ocitest.Blob
		}
		var uploads []upload
		for i := range 2 {
			clients = append(clients, func(ctx context.Context) {
				s.uploader(ctx, int(seed)+i, func(repo string, b ocitest.Blob) {
					s.mu.Lock()
					defer s.mu.Unlock()
					uploads = append(uploads, upload{repo, b})
				})
			})
		}
		clients = append(clients, s.deleter, s.verifier)
		s.run(clients, func(ctx context.Context, r *Registry) {
			for _, c := range taggers {
				c.look(ctx, r)
			}
			for _, u := range uploads {
				s.wantBlob(ctx, r, u.repo, u.blob)
			}
			for _, repo := range []string{"a", "b"} {
				s.wantWhole(ctx, r, repo)
			}
			s.wantListed(ctx, r)
		})
	})
}

// collector collects garbage now and then.
func (s *simulation) collector(ctx context.Context) {
	for range 12 {
		s.nap()
		time.Sleep(time.Duration(s.intn(5)) * time.Hour)
		s.process().GC(ctx, &ocigc.Options{Untagged: true, Dangling: true})
	}
}

func TestSimulation_CollectionsTakeNothingThatIsUsed(t *testing.T) {
	eachSeed(t, 10, func(t *testing.T, seed uint64) {
		s := newSimulation(t, seed, Options{PartSize: minPartSize})
		var taggers []*tagger
		var clients []func(context.Context)
		for i := range 3 {
			c := &tagger{s, []string{"a", "b"}[i%2], [2]string{fmt.Sprintf("t%d", i), fmt.Sprintf("u%d", i)}, map[digest.Digest]bool{"": true}}
			taggers = append(taggers, c)
			clients = append(clients, c.client)
		}
		clients = append(clients, s.deleter, s.collector, s.collector, s.verifier)
		clients = append(clients, func(ctx context.Context) { s.uploader(ctx, int(seed), func(string, ocitest.Blob) {}) })
		s.run(clients, func(ctx context.Context, r *Registry) {
			for range 8 {
				for _, c := range taggers {
					c.look(ctx, r)
				}
				for _, repo := range []string{"a", "b"} {
					s.wantWhole(ctx, r, repo)
				}
				s.wantListed(ctx, r)
				time.Sleep(25 * time.Hour)
				r.GC(ctx, &ocigc.Options{Untagged: true, Dangling: true})
			}
			s.wantReachable(ctx, r)
		})
	})
}

// wantReachable checks that the bucket has no data but that of manifests, once all delays are over.
func (s *simulation) wantReachable(ctx context.Context, r *Registry) {
	used := map[string]bool{}
	for _, repo := range []string{"a", "b"} {
		for _, a := range s.images {
			if _, err := r.ResolveManifest(ctx, repo, a.Descriptor.Digest); err == nil {
				for _, b := range a.Blobs {
					if l, err := r.blobs.Read(ctx, repo, b.Descriptor.Digest); err == nil && l.Data != "" {
						used[l.Data] = true
					}
				}
			}
		}
	}
	for _, key := range s.store.Keys() {
		if k, ok := keys.Parse(key); ok && k.Kind == keys.KindData && !used[k.Name] {
			s.problem("%s is left over", key)
		}
		if k, ok := keys.Parse(key); ok && k.Kind == keys.KindSession {
			s.problem("%s is left over", key)
		}
	}
}

func TestSimulation_AnImmutableTagHasOneWinner(t *testing.T) {
	eachSeed(t, 1, func(t *testing.T, seed uint64) {
		s := newSimulation(t, seed, Options{ImmutableTags: true, Sparse: true})
		var won, unclear []digest.Digest
		var clients []func(context.Context)
		for i := range 6 {
			a := s.images[i%len(s.images)]
			clients = append(clients, func(ctx context.Context) {
				_, err := s.process().PushManifest(ctx, "a", "v1", a.Manifest, a.Descriptor.MediaType)
				s.mu.Lock()
				defer s.mu.Unlock()
				switch {
				case err == nil:
					won = append(won, a.Descriptor.Digest)
				case !isRefused(err):
					unclear = append(unclear, a.Descriptor.Digest)
				}
			})
		}
		s.run(clients, func(ctx context.Context, r *Registry) {
			desc, err := r.ResolveTag(ctx, "a", "v1")
			if err != nil && len(won) > 0 {
				s.problem("the tag is lost: %v", err)
			}
			for _, d := range won {
				if d != desc.Digest {
					s.problem("two pushes have won")
				}
			}
			if err == nil && len(won) == 0 && !slices.Contains(unclear, desc.Digest) {
				s.problem("who was told that it lost has won")
			}
		})
	})
}

func TestSimulation_ConditionsLoseNoUpdate(t *testing.T) {
	eachSeed(t, 1, func(t *testing.T, seed uint64) {
		s := newSimulation(t, seed, Options{})
		sure, perhaps := 0, 0
		var clients []func(context.Context)
		for i := range 4 {
			clients = append(clients, func(ctx context.Context) {
				for k := range 4 {
					clear, err := s.increment(ctx, fmt.Sprintf("%d-%d", i, k))
					s.mu.Lock()
					if err == nil {
						sure++
					} else if !clear {
						perhaps++
					}
					s.mu.Unlock()
				}
			})
		}
		s.run(clients, func(ctx context.Context, r *Registry) {
			n, _, err := s.counter(ctx, r)
			if err != nil || n < sure || n > sure+perhaps {
				s.problem("%d updates, want %d to %d (%v)", n, sure, sure+perhaps, err)
			}
		})
	})
}

// counter returns how many updates a manifest has, and its digest.
func (s *simulation) counter(ctx context.Context, r *Registry) (n int, d digest.Digest, err error) {
	rd, err := r.GetTag(ctx, "a", "counter")
	if errors.Is(err, ociregistry.ErrNameUnknown) || errors.Is(err, ociregistry.ErrManifestUnknown) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	defer rd.Close()
	text, err := io.ReadAll(rd)
	if err == nil {
		_, err = fmt.Sscanf(string(text), `{"n":%d,`, &n)
	}
	return n, rd.Descriptor().Digest, err
}

// increment makes one update, if nobody else does. clear says whether a failure is sure.
func (s *simulation) increment(ctx context.Context, who string) (clear bool, err error) {
	r := s.process()
	n, d, err := s.counter(ctx, r)
	if err != nil {
		return true, err
	}
	cond := ociregistry.PushCondition{IfMatch: []digest.Digest{d}}
	if d == "" {
		cond = ociregistry.PushCondition{IfNoneMatch: []digest.Digest{"*"}}
	}
	s.nap()
	text := fmt.Appendf(nil, `{"n":%d,"who":%q}`, n+1, who)
	_, err = r.PushManifest(ociregistry.WithPushCondition(ctx, cond), "a", "counter", text, "application/x-counter")
	return err != nil && isRefused(err), err
}
