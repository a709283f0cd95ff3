package ocifs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// What a child does while it waits to be killed. Its workers share repositories
// and some blobs; manifests, tags and upload sessions belong to one worker, who
// does one thing after the other.

type killConfig struct {
	Root     string
	NoSync   bool
	Child    int // in its round
	Seed     uint64
	Sessions []killSession // that its workers have
}

// killSession is an upload session. What it is to become is the blob of a seed.
type killSession struct {
	Worker     int
	Repository string
	ID         string
	Blob       uint64
	Size       int64  // acknowledged
	Ending     string `json:"-"` // what may have ended it
}

// killEvent is what a child tells before an operation, and again after it, when
// it has been acknowledged or refused.
type killEvent struct {
	Child, N   int // which operation
	Worker     int
	Done       bool
	Op         string // the name of a method, or "open" or "close"
	Repository string
	Digest     ociregistry.Digest `json:",omitempty"`
	Tags       []string           `json:",omitempty"`
	Session    killSession
	Refused    string `json:",omitempty"` // why, if that can happen
	Unexpected string `json:",omitempty"` // an error that must not happen
}

const killWorkers = 4 // per child

var killRepos = []string{"alpha", "alpha/beta", "gamma"}

// killBlob returns the blob of a seed.
func killBlob(seed uint64) ocitest.Blob {
	return ocitest.NewBlob(seed, []int64{300, 20_000, 4000, 150_000, 16 << 10, 400_000}[seed%6])
}

// Seeds below this are of blobs that all workers push and delete.
const killSharedBlobs = 6

func killSeed(worker, n int) uint64 { return uint64(1000*(worker+1) + n) }

// killManifest is a manifest and what must be there before it.
type killManifest struct {
	desc     ociregistry.Descriptor
	data     []byte
	blobs    []ocitest.Blob
	children []killManifest
}

// killImage returns one of the images of a worker.
func killImage(worker, n int) killManifest {
	blobs := []ocitest.Blob{killBlob(killSeed(worker, n)), killBlob(uint64(n % killSharedBlobs)), killBlob(killSeed(worker, n/2))}
	layers := []ociregistry.Descriptor{blobs[1].Descriptor, blobs[2].Descriptor}
	image := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: blobs[0].Descriptor, Layers: layers}
	image.SchemaVersion = 2
	return newKillManifest(image, image.MediaType, killManifest{blobs: blobs})
}

// killIndex returns one of the indexes of a worker.
func killIndex(worker, n int) killManifest {
	children := []killManifest{killImage(worker, n), killImage(worker, n+1)}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ociregistry.Descriptor{children[0].desc, children[1].desc}}
	index.SchemaVersion = 2
	return newKillManifest(index, index.MediaType, killManifest{children: children})
}

func newKillManifest(v any, mediaType string, m killManifest) killManifest {
	m.data, _ = json.Marshal(v)
	m.desc = ociregistry.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(m.data), Size: int64(len(m.data))}
	return m
}

// sharedOwner is the worker whose images all workers tag as "latest". They are
// never deleted.
const sharedOwner = 99

// killWorker is one worker of a child.
type killWorker struct {
	*rand.Rand
	log      *killLog
	root     string
	reg      ociregistry.Interface
	id       int
	sessions []killSession
}

// killLog writes events, each with one system call, so that none is torn.
type killLog struct {
	mu    sync.Mutex
	child int
	n     int
}

func (l *killLog) write(ev killEvent) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ev.Done {
		l.n++
		ev.N = l.n
	}
	ev.Child = l.child
	line, err := json.Marshal(ev)
	if err == nil {
		_, err = os.Stdout.Write(append(line, '\n'))
	}
	return ev.N, err
}

func killChild(config []byte, stop <-chan struct{}) error {
	var c killConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return err
	}
	log := &killLog{child: c.Child}
	if _, err := log.write(killEvent{Op: "open"}); err != nil {
		return err
	}
	reg, err := ocifs.New(c.Root, &ocifs.Options{NoSync: c.NoSync})
	if err != nil {
		return err
	}
	if _, err := log.write(killEvent{Op: "open", N: 1, Done: true}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, killWorkers)
	for i := range killWorkers {
		w := &killWorker{log: log, root: c.Root, reg: reg, id: c.Child*killWorkers + i}
		w.Rand = rand.New(rand.NewPCG(c.Seed, uint64(w.id)))
		for _, s := range c.Sessions {
			if s.Worker == w.id {
				w.sessions = append(w.sessions, s)
			}
		}
		wg.Go(func() { errs[i] = w.work(stop) })
	}
	wg.Wait()
	if _, err := log.write(killEvent{Op: "close"}); err != nil {
		return err
	}
	return errors.Join(append(errs, reg.Close())...)
}

var killCtx = context.Background()

func (w *killWorker) work(stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := w.step(); err != nil {
			return fmt.Errorf("worker %d: %w", w.id, err)
		}
	}
}

func (w *killWorker) step() error {
	repo := killRepos[w.IntN(len(killRepos))]
	switch k := w.IntN(100); {
	case k < 30:
		return w.push(repo, killImage(w.id, w.IntN(6)), w.tags())
	case k < 36:
		return w.push(repo, killIndex(w.id, w.IntN(5)), w.tags())
	case k < 42:
		return w.push(repo, killImage(sharedOwner, w.IntN(3)), []string{"latest"})
	case k < 50:
		return w.pushManifest(repo, killImage(w.id, w.IntN(6)), w.tags())
	case k < 58:
		tag := w.tags()[0]
		return w.do(killEvent{Op: "DeleteTag", Repository: repo, Tags: []string{tag}}, func(*killEvent) error {
			return w.reg.DeleteTag(killCtx, repo, tag)
		})
	case k < 68:
		m := killImage(w.id, w.IntN(6))
		if w.IntN(3) == 0 {
			m = killIndex(w.id, w.IntN(5))
		}
		return w.do(killEvent{Op: "DeleteManifest", Repository: repo, Digest: m.desc.Digest}, func(*killEvent) error {
			return w.reg.DeleteManifest(killCtx, repo, m.desc.Digest)
		})
	case k < 77:
		d := w.anyBlob().Descriptor.Digest
		return w.do(killEvent{Op: "DeleteBlob", Repository: repo, Digest: d}, func(*killEvent) error {
			return w.reg.DeleteBlob(killCtx, repo, d)
		})
	case k < 80:
		return w.collect()
	case k < 86:
		from, d := append(killRepos, "")[w.IntN(len(killRepos)+1)], w.anyBlob().Descriptor.Digest
		return w.do(killEvent{Op: "MountBlob", Repository: repo, Digest: d}, func(*killEvent) error {
			_, err := w.reg.MountBlob(killCtx, from, repo, d)
			return err
		})
	default:
		return w.upload(repo)
	}
}

// tags returns one to three tags of this worker.
func (w *killWorker) tags() []string {
	var tags []string
	for _, n := range w.Perm(6)[:1+w.IntN(3)] {
		tags = append(tags, fmt.Sprintf("w%d-%d", w.id, n))
	}
	return tags
}

// anyBlob returns a blob of this worker, or one of all.
func (w *killWorker) anyBlob() ocitest.Blob {
	if w.IntN(2) == 0 {
		return killBlob(uint64(w.IntN(killSharedBlobs)))
	}
	return killBlob(killSeed(w.id, w.IntN(10)))
}

// do does one operation, and tells of it.
func (w *killWorker) do(ev killEvent, f func(*killEvent) error) (err error) {
	ev.Worker = w.id
	if ev.N, err = w.log.write(ev); err != nil {
		return err
	}
	err = f(&ev)
	ev.Done = true
	switch {
	case err == nil:
	case slices.ContainsFunc([]error{
		ociregistry.ErrInUse, ociregistry.ErrNameUnknown, ociregistry.ErrManifestUnknown,
		ociregistry.ErrBlobUnknown, ociregistry.ErrManifestBlobUnknown,
	}, func(target error) bool { return errors.Is(err, target) }):
		ev.Refused = err.Error()
	default:
		ev.Unexpected = err.Error()
	}
	_, err = w.log.write(ev)
	return err
}

func (w *killWorker) push(repo string, m killManifest, tags []string) error {
	for _, b := range m.blobs {
		if err := w.do(killEvent{Op: "PushBlob", Repository: repo, Digest: b.Descriptor.Digest}, func(*killEvent) error {
			_, err := w.reg.PushBlob(killCtx, repo, b.Descriptor, b.NewReader())
			return err
		}); err != nil {
			return err
		}
	}
	for _, child := range m.children {
		if err := w.push(repo, child, nil); err != nil {
			return err
		}
	}
	return w.pushManifest(repo, m, tags)
}

func (w *killWorker) pushManifest(repo string, m killManifest, tags []string) error {
	return w.do(killEvent{Op: "PushManifest", Repository: repo, Digest: m.desc.Digest, Tags: tags}, func(*killEvent) error {
		_, err := w.reg.PushManifest(killCtx, repo, "", m.data, m.desc.MediaType, tags...)
		return err
	})
}

// upload begins an upload, or goes on with one, or ends it.
func (w *killWorker) upload(repo string) error {
	if len(w.sessions) < 2 {
		seed := killSeed(w.id, w.IntN(10))
		return w.do(killEvent{Op: "PushBlobChunked", Repository: repo, Session: killSession{Worker: w.id, Repository: repo, Blob: seed}}, func(ev *killEvent) error {
			u, err := w.reg.PushBlobChunked(killCtx, repo, 0)
			if err != nil {
				return err
			}
			ev.Session.ID = u.ID()
			w.sessions = append(w.sessions, ev.Session)
			return u.Close()
		})
	}
	i := w.IntN(len(w.sessions))
	s := w.sessions[i]
	data := killBlob(s.Blob).Bytes()
	if w.IntN(10) == 0 {
		w.sessions = slices.Delete(w.sessions, i, i+1)
		return w.do(killEvent{Op: "Cancel", Repository: s.Repository, Session: s}, func(*killEvent) error {
			u, err := w.reg.PushBlobChunkedResume(killCtx, s.Repository, s.ID, s.Size, 0)
			if err != nil {
				return err
			}
			return u.Cancel()
		})
	}
	end := min(s.Size+1+w.Int64N(200_000), int64(len(data)))
	if end < int64(len(data)) || w.IntN(2) == 0 && s.Size < int64(len(data)) {
		return w.do(killEvent{Op: "Write", Repository: s.Repository, Session: s}, func(ev *killEvent) error {
			u, err := w.reg.PushBlobChunkedResume(killCtx, s.Repository, s.ID, s.Size, 0)
			if err != nil {
				return err
			}
			middle := s.Size + (end-s.Size)/2
			_, err1 := u.Write(data[s.Size:middle])
			_, err2 := u.Write(data[middle:end])
			w.sessions[i].Size = u.Size()
			ev.Session.Size = u.Size()
			return errors.Join(err1, err2, u.Close())
		})
	}
	w.sessions = slices.Delete(w.sessions, i, i+1)
	d := killBlob(s.Blob).Descriptor.Digest
	return w.do(killEvent{Op: "Commit", Repository: s.Repository, Digest: d, Session: s}, func(*killEvent) error {
		u, err := w.reg.PushBlobChunkedResume(killCtx, s.Repository, s.ID, s.Size, 0)
		if err != nil {
			return err
		}
		return finishUpload(u, killBlob(s.Blob))
	})
}

// finishUpload writes what an upload has not got yet, and commits it.
func finishUpload(w ociregistry.BlobWriter, blob ocitest.Blob) error {
	if rest := blob.Bytes()[w.Size():]; len(rest) > 0 {
		if _, err := w.Write(rest); err != nil {
			return err
		}
	}
	_, err := w.Commit(blob.Descriptor.Digest)
	return err
}

// Garbage is in repositories of its own, below this one, and has seeds from this one on. What
// becomes of it does not matter.
const (
	killGarbage     = "garbage"
	killGarbageSeed = 1 << 40
)

// collect collects garbage. All is young but images that it pushes for that.
func (w *killWorker) collect() error {
	repo := fmt.Sprint(killGarbage, "/w", w.id)
	return w.do(killEvent{Op: "GC", Repository: repo}, func(*killEvent) error {
		for range 3 {
			if err := killImageOf(w.IntN(20)).Push(killCtx, w.reg, repo); err != nil {
				return err
			}
		}
		if err := w.gc(); err != nil { // makes files of all
			return err
		}
		old := time.Now().Add(-24 * time.Hour)
		blobs := filepath.Join(w.root, filepath.FromSlash(repo), "blobs", "sha256")
		entries, _ := os.ReadDir(blobs)
		for _, e := range entries {
			os.Chtimes(filepath.Join(blobs, e.Name()), old, old)
		}
		return w.gc()
	})
}

func (w *killWorker) gc() error {
	report, err := w.reg.(ocigc.Collector).GC(killCtx, &ocigc.Options{Untagged: true, Dangling: true})
	if err == nil {
		for _, p := range report.Problems {
			err = errors.Join(err, p)
		}
	}
	return err
}

// killImageOf returns one of the images that are garbage.
func killImageOf(n int) *ocitest.Artifact {
	return ocitest.NewImage(ocitest.Spec{Seed: killGarbageSeed + uint64(n), Layers: []int64{100, 20_000}})
}

// isKillGarbage reports whether a file, or a repository, is garbage.
func isKillGarbage(name string) bool {
	if strings.HasPrefix(name, killGarbage+"/") || strings.HasPrefix(name, ".ocifs/pulls/") {
		return true
	}
	for n := range 20 {
		for _, b := range killImageOf(n).Blobs {
			if strings.HasSuffix(name, "/"+b.Descriptor.Digest.Encoded()) {
				return true
			}
		}
	}
	return false
}
