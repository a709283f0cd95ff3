package ocifs

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
	"github.com/seed-40b21970/oci/ociserver"
)

// imageCalls are the most calls of the system, by kind, that it may take to push an image
// of one layer of 1 MiB into a new repository by HTTP, and to fold that. A change that
// needs fewer lowers them, and no change raises them.
var imageCalls = []struct {
	kind            string
	noSync, durable int
}{
	{"OpenFile", 13, 15},
	{"Lstat", 32, 32},
	{"Mkdir", 4, 4},
	{"Link", 3, 3},
	{"Rename", 4, 4},
	{"Remove", 2, 2},
	{"Chtimes", 1, 1},
	{"ReadDir", 0, 1},
	{"SyncDir", 0, 9},
	{"TryLock", 3, 3},
	{"Unlock", 2, 2},
	{"file.Write", 3, 3},
	{"file.WriteAt", 11, 11},
	{"file.Stat", 10, 10},
	{"file.Sync", 1, 9},
	{"file.Truncate", 1, 1},
}

func TestImagePush_NeedsNoMoreCallsOfTheSystemThanBefore(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprintf("durable=%t", durable), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newImagePusher(t, durable)
				p.push("first", 1) // makes what all repositories share
				p.fsys.Set(nil)
				p.push("second", 2)
				got := p.fsys.Counts()
				for _, most := range imageCalls {
					bound := most.noSync
					if durable {
						bound = most.durable
					}
					if n := got[most.kind]; n > bound {
						t.Errorf("%d calls of %s, not at most %d", n, most.kind, bound)
					}
					delete(got, most.kind)
				}
				qt.Check(t, qt.HasLen(got, 0)) // of kinds that have no bound
			})
		})
	}
}

// The lock of a journal is taken and given back once for each commit: one that closes the
// journal gives it back by that.
func TestCommit_LocksTheJournalOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newImagePusher(t, false)
		p.push("first", 1)
		var locks, unlocks atomic.Int32
		p.fsys.Set(func(op, name string) error {
			switch {
			case filepath.Base(name) != "journal":
			case op == "TryLock":
				locks.Add(1)
			case op == "Unlock":
				unlocks.Add(1)
			}
			return nil
		})
		p.after = func(step string, commits int32) {
			if n := locks.Swap(0); n != commits {
				t.Errorf("%d locks for %d commits of %s", n, commits, step)
			}
			if n := unlocks.Swap(0); n > commits {
				t.Errorf("%d unlocks for %d commits of %s", n, commits, step)
			}
		}
		p.push("second", 2)
	})
}

// imagePusher pushes images to a registry whose calls of the system are counted.
type imagePusher struct {
	*testing.T
	fsys    *disktest.Hooks
	handler http.Handler

	// after is called after each step, with the number of commits that it needs.
	// Nil is nothing.
	after func(step string, commits int32)
}

// newImagePusher is called in a synctest bubble.
func newImagePusher(t *testing.T, durable bool) *imagePusher {
	p := &imagePusher{T: t, fsys: new(disktest.Hooks)}
	r, err := open(p.fsys, filepath.Join(scratch.Kept(t), "registry"), "", &Options{NoSync: !durable})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { r.Close() })
	synctest.Wait() // for what opening does in the background
	p.handler = ociserver.New(r, nil)
	return p
}

// push pushes an image into a repository, as clients do, and waits until it is folded.
func (p *imagePusher) push(repo string, seed uint64) {
	image := ocitest.NewImage(ocitest.Spec{Seed: seed, Layers: []int64{1 << 20}})
	config, layer := image.Blobs[0], image.Blobs[1]
	p.pushBlob(repo, layer)
	p.step("the layer", 0)
	p.pushBlob(repo, config)
	p.step("the configuration", 1)
	p.do("PUT", "/v2/"+repo+"/manifests/latest", image.Manifest, http.StatusCreated)
	p.step("the manifest", 1)
	time.Sleep(time.Second)
	p.step("the fold", 1)
}

func (p *imagePusher) step(name string, commits int32) {
	if p.after != nil {
		p.after(name, commits)
	}
}

func (p *imagePusher) pushBlob(repo string, b ocitest.Blob) {
	location := p.do("POST", "/v2/"+repo+"/blobs/uploads/", nil, http.StatusAccepted)
	p.do("PUT", location+"?digest="+b.Descriptor.Digest.String(), b.Bytes(), http.StatusCreated)
}

func (p *imagePusher) do(method, target string, body []byte, want int) (location string) {
	p.Helper()
	req := httptest.NewRequestWithContext(p.Context(), method, target, bytes.NewReader(body))
	req.Header.Set("Content-Type", ocispec.MediaTypeImageManifest)
	rec := httptest.NewRecorder()
	p.handler.ServeHTTP(rec, req)
	qt.Assert(p, qt.Equals(rec.Code, want), qt.Commentf("%s", rec.Body))
	return rec.Header().Get("Location")
}
