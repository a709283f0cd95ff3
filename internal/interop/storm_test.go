package interop

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

const (
	// originWait is how long the cache waits for an origin that does not answer, if something is kept.
	originWait = 10 * time.Second

	// keptWithin is how soon what is kept must come, whatever the origin does: after originWait, if nothing
	// else keeps the machine from it.
	keptWithin = time.Minute

	// otherWithin is how soon there must be content or an error otherwise: the
	// client's bound for the next byte, with its retries.
	otherWithin = 5 * time.Minute
)

// TestStorm serves a cache and a mirror of an origin that stalls, dies, lies and
// recovers, to clients that never stop to pull. It lasts for
// OCI_INTEROP_STORM, a duration such as 10m; without that, every weather has a
// second or two, and longer if that is what it takes to pull each repository.
func TestStorm(t *testing.T) {
	t.Parallel()
	origin := startOrigin(t)
	s := &storm{t: t, origin: origin, kept: make(map[string]bool), seen: make(map[string]int)}
	for i := range 4 {
		s.repos = append(s.repos, &moving{name: fmt.Sprintf("app/%c", 'a'+i), seed: uint64(i+1) * 1000})
	}
	s.repos = append(s.repos, &moving{name: "mirrored/one", seed: 8000}, &moving{name: "mirrored/two", seed: 9000})
	for _, m := range s.repos {
		s.move(m)
	}

	dir := t.TempDir()
	rules := filepath.Join(t.TempDir(), "rules.json")
	if err := os.WriteFile(rules, []byte(`{"interval": "2s", "sources": [{"rules": [{"repositories": "mirrored/**"}]}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	s.cache = launch(t, []string{"-cache", "http://" + origin.host(), "-dir", dir, "-mirror", rules})
	s.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer s.client.CloseIdleConnections()

	s.blow()
	if t.Failed() {
		return
	}
	s.checkCalm()
	s.cache.stop()
	checkTemp(t, s.cache.temp)
	checkDirectory(t, dir)
}

// storm is what TestStorm knows.
type storm struct {
	t      *testing.T
	origin *origin
	cache  *server
	client *http.Client
	repos  []*moving

	mu         sync.Mutex
	kept       map[string]bool // paths that were answered in full
	seen       map[string]int  // the latest generation that was seen of a repository's tag
	weather    weather
	quickest   map[string]time.Duration // in this weather, of each tag that was kept
	pulls      int
	failures   map[weather]int
	slowest    map[weather]time.Duration
	slowestOld time.Duration // of what was not kept
	usage      []resources
	wrongs     sync.Map // from format to how often
}

// moving is a repository whose tag moves.
type moving struct {
	name string
	seed uint64

	mu     sync.Mutex
	images []*ocitest.Artifact // what the tag was, in order
}

// move pushes another image to the origin, and moves the tag there.
func (s *storm) move(m *moving) {
	m.mu.Lock()
	defer m.mu.Unlock()
	image := ocitest.NewImage(ocitest.Spec{Seed: m.seed + uint64(len(m.images)), Layers: []int64{2 << 20, 1000}})
	m.images = append(m.images, image) // before it can be seen
	if err := image.Push(s.t.Context(), s.origin.reg, m.name, "latest"); err != nil {
		s.t.Error(err)
	}
}

// generation returns which of its images a digest is.
func (m *moving) generation(d ociregistry.Digest) (int, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.images, func(a *ocitest.Artifact) bool { return a.Descriptor.Digest == d })
	return i, i >= 0
}

func (m *moving) latest() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.images) - 1
}

// blow lets the weather change while clients pull.
func (s *storm) blow() {
	s.failures, s.slowest = make(map[weather]int), make(map[weather]time.Duration)
	long, _ := time.ParseDuration(os.Getenv("OCI_INTEROP_STORM"))
	stop := make(chan struct{})
	var pulling sync.WaitGroup
	for i := range 6 {
		pulling.Go(func() { s.pull(uint64(i), stop) })
	}
	s.await("everything is kept", func() bool {
		s.pullAll()
		return !slices.ContainsFunc(s.repos, func(m *moving) bool { return !s.isKept(m.name + " latest") })
	})
	for _, w := range foul {
		foulTime, fairTime := time.Second, time.Second
		if long > 0 {
			part := long / time.Duration(3*len(foul))
			foulTime, fairTime = max(2*part, foulTime), part
		}
		s.turn(w)
		s.wait(foulTime / 2)
		s.pullAll()
		if w == stalled { // as the cache knows by now, it does not wait for it
			s.await("what is kept comes at once from an origin that is known to stall", func() bool {
				s.pullAll()
				return s.isQuick()
			})
		}
		for _, m := range s.repos {
			s.move(m) // unseen, or half seen
		}
		s.wait(foulTime / 2)
		s.askAll()
		s.turn(fair)
		s.wait(fairTime)
		s.usage = append(s.usage, s.measure())
	}
	close(stop)
	pulling.Wait()
	s.t.Logf("%d pulls; failures: %v; slowest of what was kept: %v; slowest of what was not: %v", s.pulls, s.failures, s.slowest, s.slowestOld)
	s.t.Logf("memory, descriptors and temporary bytes after each weather: %v", s.usage)
}

func (s *storm) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.t.Context().Done():
	}
}

// await waits until something is so.
func (s *storm) await(what string, isSo func() bool) {
	for end := time.Now().Add(patience); !isSo(); s.wait(10 * time.Millisecond) {
		if s.t.Failed() || time.Now().After(end) {
			s.t.Errorf("it is not so that %s", what)
			return
		}
	}
}

func (s *storm) turn(w weather) {
	s.mu.Lock()
	s.weather, s.quickest = w, make(map[string]time.Duration)
	s.mu.Unlock()
	s.origin.turn(w)
}

// isQuick reports whether of each repository, the tag came at least once in this weather
// without the cache waiting for its origin.
func (s *storm) isQuick() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(s.repos, func(m *moving) bool {
		took, ok := s.quickest[m.name+" latest"]
		return !ok || took > originWait/2
	})
}

// pullAll pulls each repository that moves.
func (s *storm) pullAll() {
	s.together(func(i int, m *moving) { s.pullTag(m, i%2 == 0) })
}

// askAll asks what the tags of all of them are. Of an image that is new, no more may come in this weather.
func (s *storm) askAll() {
	s.together(func(_ int, m *moving) { s.ask(http.MethodGet, m.name+"/manifests/latest", m.name+" latest") })
}

// together calls f for each repository that moves, all at once.
func (s *storm) together(f func(i int, m *moving)) {
	var all sync.WaitGroup
	for i, m := range s.repos {
		all.Go(func() { f(i, m) })
	}
	all.Wait()
}

// pull pulls images until it is stopped.
func (s *storm) pull(seed uint64, stop <-chan struct{}) {
	random := rand.New(rand.NewPCG(seed, 0))
	for cold := 0; ; cold++ {
		select {
		case <-stop:
			return
		default:
		}
		m := s.repos[random.IntN(len(s.repos))]
		if random.IntN(10) == 0 { // something that nobody has asked for
			m = &moving{name: fmt.Sprintf("cold/c%d-%d", seed, cold), seed: 1_000_000*(seed+1) + uint64(cold)}
			s.move(m)
		}
		s.pullTag(m, random.IntN(2) == 0)
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
	}
}

// pullTag pulls what the tag of a repository points at: by HEAD and digest, as
// some clients do, or by GET.
func (s *storm) pullTag(m *moving, byHead bool) {
	s.mu.Lock()
	atLeast := s.seen[m.name]
	s.mu.Unlock()
	method := http.MethodGet
	if byHead {
		method = http.MethodHead
	}
	header, body, err := s.ask(method, m.name+"/manifests/latest", m.name+" latest")
	if err != nil {
		return
	}
	d := ociregistry.Digest(header.Get("Docker-Content-Digest"))
	if !byHead {
		if got := digest.FromBytes(body); got != d {
			s.wrong("%s: the manifest has the digest %s, and the header says %s", m.name, got, d)
			return
		}
	}
	generation, ok := m.generation(d)
	switch {
	case !ok:
		s.wrong("%s: the tag was never %s", m.name, d)
		return
	case generation < atLeast:
		s.wrong("%s: the tag is image %d again, after %d was seen", m.name, generation, atLeast)
	}
	manifest := m.name + "/manifests/" + d.String()
	if _, body, err = s.ask(http.MethodGet, manifest, manifest); err != nil {
		return
	}
	s.mu.Lock()
	s.seen[m.name] = max(s.seen[m.name], generation) // only now is the image one that can be served later
	s.mu.Unlock()
	if digest.FromBytes(body) != d {
		s.wrong("%s: wrong content", manifest)
		return
	}
	var parsed ociregistry.Manifest
	if err := json.Unmarshal(body, &parsed); err != nil {
		s.wrong("%s: %v", manifest, err)
		return
	}
	whole := true
	for _, desc := range append(parsed.Layers, parsed.Config) {
		path := m.name + "/blobs/" + desc.Digest.String()
		_, body, err := s.ask(http.MethodGet, path, path)
		if err != nil {
			whole = false
			continue
		}
		if digest.FromBytes(body) != desc.Digest {
			s.wrong("%s: wrong content", path)
		}
	}
	if whole {
		s.keep(m.name + " latest")
	}
}

func (s *storm) isKept(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[what]
}

func (s *storm) keep(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[what] = true
}

// wrong reports what must not be, the first few times of each kind.
func (s *storm) wrong(format string, args ...any) {
	s.t.Helper()
	n, _ := s.wrongs.LoadOrStore(format, new(atomic.Int64))
	if n.(*atomic.Int64).Add(1) <= 5 {
		s.t.Errorf(format, args...)
	}
}

// errFailed is that there was no content, which is the weather's.
var errFailed = errors.New("failed")

// ask makes a request of the cache. If what it asks for is kept, it must
// succeed.
func (s *storm) ask(method, path, what string) (http.Header, []byte, error) {
	kept := s.isKept(what)
	now, _ := s.origin.look()
	begun := time.Now()
	header, body, err := s.do(method, "http://"+s.cache.host+"/v2/"+path)
	took := time.Since(begun)
	after, _ := s.origin.look()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulls++
	switch {
	case !kept:
		s.slowestOld = max(s.slowestOld, took)
		if took > otherWithin {
			s.wrong("%s %s took %v when it was %s", method, path, took, now)
		}
	case err != nil:
		s.wrong("%s %s, which was kept, when it was %s: %v", method, path, now, err)
	case took > keptWithin:
		s.wrong("%s %s, which was kept, took %v when it was %s", method, path, took, now)
	}
	if kept {
		s.slowest[now] = max(s.slowest[now], took)
	}
	if quickest, ok := s.quickest[what]; kept && err == nil && now == after && now == s.weather && (!ok || took < quickest) {
		s.quickest[what] = took
	}
	if err != nil {
		s.failures[now]++
		return nil, nil, errFailed
	}
	if method == http.MethodGet && !strings.HasSuffix(what, " latest") {
		s.kept[what] = true
	}
	return header, body, nil
}

// do makes a request and reads the answer.
func (s *storm) do(method, url string) (http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", resp.Status, body)
	}
	return resp.Header, body, err
}

// checkCalm checks that in fair weather everything is as at the origin again, and
// what is used of memory and files is what was used before.
func (s *storm) checkCalm() {
	for _, m := range s.repos {
		s.await(m.name+" is as at the origin", func() bool {
			header, _, err := s.do(http.MethodGet, "http://"+s.cache.host+"/v2/"+m.name+"/manifests/latest")
			if err != nil {
				s.t.Errorf("%s, in fair weather: %v", m.name, err)
				return false
			}
			g, _ := m.generation(ociregistry.Digest(header.Get("Docker-Content-Digest")))
			return g == m.latest() // not at once, if the machine stood still and so the origin seemed to stall
		})
	}
	s.client.CloseIdleConnections()
	half := len(s.usage) / 2
	before := slices.MaxFunc(s.usage[:half], func(a, b resources) int { return cmp.Compare(a.memory, b.memory) })
	s.await(fmt.Sprintf("the process has not much more than %d MiB, as in the first half, and no more than 200 files", before.memory>>20), func() bool {
		last := s.measure()
		return last.memory <= before.memory*5/4+32<<20 && last.files <= 200
	})
}

// resources are what a process uses.
type resources struct {
	memory int64 // resident, in bytes
	files  int   // descriptors
	temp   int64 // bytes in its directory for temporary files
}

func (u resources) String() string {
	return fmt.Sprintf("%d MiB %d files %d KiB", u.memory>>20, u.files, u.temp>>10)
}

func (s *storm) measure() resources {
	var u resources
	proc := filepath.Join("/proc", strconv.Itoa(s.cache.pid))
	status, _ := os.ReadFile(filepath.Join(proc, "status"))
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			u.memory = kib << 10
		}
	}
	fds, _ := os.ReadDir(filepath.Join(proc, "fd"))
	u.files = len(fds)
	filepath.WalkDir(s.cache.temp, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				u.temp += info.Size()
			}
		}
		return nil
	})
	return u
}

// checkTemp checks that nothing is left in a directory for temporary files.
func checkTemp(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left in the directory for temporary files: %s", e.Name())
	}
}

// checkDirectory checks that all of the content in a registry's directory is what
// its digest says.
func checkDirectory(t *testing.T, dir string) {
	t.Helper()
	reg, err := ocifs.New(dir, &ocifs.Options{Sparse: true})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	for problem, err := range reg.Verify(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(problem.Err, ocifs.ErrMissing) { // a cache has images in part
			t.Errorf("in the directory: %v", problem)
		}
	}
}
