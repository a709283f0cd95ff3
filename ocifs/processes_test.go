package ocifs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// Several processes have one root open.

// sharedRoot is the configuration of a child.
type sharedRoot struct {
	Root    string
	Pushers []string // their names
	Name    string   // of this one
	Tags    int      // that each pusher pushes to tagsRepo
	Images  int      // that each pusher pushes to the repositories of images
}

const tagsRepo = "tags"

func imagesRepo(n int) string { return fmt.Sprint("images/", n%5) }

// tagged is what a pusher pushes under its nth tag: a manifest that needs nothing.
func (s sharedRoot) tagged(pusher string, n int) (tag string, a *ocitest.Artifact) {
	tag = fmt.Sprintf("%s-%04d", pusher, n)
	return tag, ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"tag": tag}})
}

// image returns the nth image of a pusher. Every third has the layers of another
// pusher's, and every ninth is the same.
func (s sharedRoot) image(pusher string, n int) (tag string, a *ocitest.Artifact) {
	spec := ocitest.Spec{Seed: uint64(n), Layers: []int64{2000, 30_000}, Annotations: map[string]string{"pusher": pusher}}
	switch {
	case n%9 == 0:
		spec.Annotations = nil
	case n%3 != 0:
		spec.Seed += 1000 * uint64(1+slices.Index(s.Pushers, pusher))
	}
	return fmt.Sprintf("%s-%d", pusher, n), ocitest.NewImage(spec)
}

// each calls f for everything that a pusher pushes, in several goroutines.
func (s sharedRoot) each(pusher string, f func(repo, tag string, a *ocitest.Artifact) error) error {
	const goroutines = 8
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			for errs[g] == nil {
				n := int(next.Add(1)) - 1
				if n < s.Tags {
					tag, a := s.tagged(pusher, n)
					errs[g] = f(tagsRepo, tag, a)
				} else if n -= s.Tags; n < s.Images {
					tag, a := s.image(pusher, n)
					errs[g] = f(imagesRepo(n), tag, a)
				} else {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// TestProcesses lets two processes push to one root while a third reads. With
// OCIFS_FULL they push more.
func TestProcesses(t *testing.T) {
	t.Parallel()
	s := sharedRoot{Root: scratch.Kept(t), Pushers: []string{"x", "y"}, Tags: 200, Images: 40}
	if os.Getenv("OCIFS_FULL") != "" {
		s.Tags, s.Images = 1000, 200
	}
	reader := startChild(t, "read", s, os.Stderr)
	var pushers []*child
	for _, s.Name = range s.Pushers {
		pushers = append(pushers, startChild(t, "push", s, os.Stderr))
	}
	for _, c := range pushers {
		<-c.ended
		qt.Check(t, qt.IsNil(c.err))
	}
	qt.Assert(t, qt.IsNil(reader.stop()))

	reg, err := ocifs.New(s.Root, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(s.verify(reg)))
	qt.Assert(t, qt.IsNil(reg.Close()))

	want := make(map[string]map[string]string)
	for _, pusher := range s.Pushers {
		var mu sync.Mutex
		s.each(pusher, func(repo, tag string, a *ocitest.Artifact) error {
			mu.Lock()
			defer mu.Unlock()
			if want[repo] == nil {
				want[repo] = make(map[string]string)
			}
			want[repo][tag] = string(a.Descriptor.Digest)
			return nil
		})
	}
	for repo, tags := range want {
		index, err := readDiskIndex(filepath.Join(s.Root, filepath.FromSlash(repo)))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.DeepEquals(index.tags, tags))
	}
}

// verify checks that everything is there, and nothing else.
func (s sharedRoot) verify(reg ociregistry.Interface) error {
	ctx := context.Background()
	tags := make(map[string][]string)
	for _, pusher := range s.Pushers {
		var mu sync.Mutex
		if err := s.each(pusher, func(repo, tag string, a *ocitest.Artifact) error {
			mu.Lock()
			tags[repo] = append(tags[repo], tag)
			mu.Unlock()
			desc, err := reg.ResolveTag(ctx, repo, tag)
			if err != nil {
				return err
			}
			if desc.Digest != a.Descriptor.Digest {
				return fmt.Errorf("%s:%s is %s, want %s", repo, tag, desc.Digest, a.Descriptor.Digest)
			}
			return a.Verify(ctx, reg, repo)
		}); err != nil {
			return err
		}
	}
	for repo, want := range tags {
		slices.Sort(want)
		got, err := ociregistry.All(reg.Tags(ctx, repo, ""))
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("%s has %d tags (%v), want %d", repo, len(got), err, len(want))
		}
	}
	return nil
}

func pushChild(config []byte, _ <-chan struct{}) error {
	var s sharedRoot
	if err := json.Unmarshal(config, &s); err != nil {
		return err
	}
	reg, err := ocifs.New(s.Root, nil)
	if err != nil {
		return err
	}
	err = s.each(s.Name, func(repo, tag string, a *ocitest.Artifact) error {
		return a.Push(context.Background(), reg, repo, tag)
	})
	return errors.Join(err, reg.Close())
}

// readChild reads again and again what the pushers push, until it is told to
// stop. Then all must be there.
func readChild(config []byte, stop <-chan struct{}) error {
	var s sharedRoot
	if err := json.Unmarshal(config, &s); err != nil {
		return err
	}
	reg, err := ocifs.New(s.Root, nil)
	if err != nil {
		return err
	}
	r := sharedReader{reg: reg, seen: make(map[string][]string)}
	for {
		select {
		case <-stop:
			return errors.Join(r.pass(), s.verify(reg), reg.Close())
		default:
		}
		if err := r.pass(); err != nil {
			return fmt.Errorf("pass %d: %w", r.passes, err)
		}
	}
}

type sharedReader struct {
	reg    *ocifs.Registry
	passes int
	seen   map[string][]string // tags by repository
}

// pass lists everything, and reads what is new and some of the rest.
func (r *sharedReader) pass() error {
	ctx := context.Background()
	r.passes++
	repos, err := ociregistry.All(r.reg.Repositories(ctx, ""))
	if err != nil {
		return err
	}
	for repo := range r.seen {
		if !slices.Contains(repos, repo) {
			return fmt.Errorf("repository %s has disappeared", repo)
		}
	}
	for _, repo := range repos {
		tags, err := ociregistry.All(r.reg.Tags(ctx, repo, ""))
		if err != nil {
			return err
		}
		if !slices.IsSorted(tags) {
			return fmt.Errorf("the tags of %s are not sorted", repo)
		}
		for _, tag := range r.seen[repo] {
			if _, ok := slices.BinarySearch(tags, tag); !ok {
				return fmt.Errorf("tag %s of %s has disappeared", tag, repo)
			}
		}
		for _, tag := range tags {
			_, seen := slices.BinarySearch(r.seen[repo], tag)
			if seen && rand.IntN(20) > 0 {
				continue
			}
			if err := readWhole(r.reg, repo, tag); err != nil {
				return fmt.Errorf("tag %s of %s (seen before: %v): %w", tag, repo, seen, err)
			}
		}
		r.seen[repo] = tags
	}
	return nil
}

// readWhole reads an image with its blobs, or an index with all below it.
func readWhole(reg ociregistry.Interface, repo, tag string) error {
	ctx := context.Background()
	r, err := reg.GetTag(ctx, repo, tag)
	if err != nil {
		return err
	}
	return readManifest(reg, repo, r)
}

func readManifest(reg ociregistry.Interface, repo string, r ociregistry.BlobReader) error {
	data, err := readVerified(r)
	if err != nil {
		return err
	}
	var m struct {
		Config            *ociregistry.Descriptor
		Layers, Manifests []ociregistry.Descriptor
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, desc := range m.Layers {
		r, err := reg.GetBlob(context.Background(), repo, desc.Digest)
		if err == nil {
			_, err = readVerified(r)
		}
		if err != nil {
			return fmt.Errorf("a blob: %w", err)
		}
	}
	for _, desc := range m.Manifests {
		r, err := reg.GetManifest(context.Background(), repo, desc.Digest)
		if err == nil {
			err = readManifest(reg, repo, r)
		}
		if err != nil {
			return fmt.Errorf("a child: %w", err)
		}
	}
	return nil
}

// readVerified reads r, and checks that the content is what its descriptor says.
func readVerified(r ociregistry.BlobReader) ([]byte, error) {
	defer r.Close()
	data, err := io.ReadAll(r)
	desc := r.Descriptor()
	if got := desc.Digest.Algorithm().FromBytes(data); err == nil && (got != desc.Digest || int64(len(data)) != desc.Size) {
		err = fmt.Errorf("%d bytes of digest %s, want %d of %s", len(data), got, desc.Size, desc.Digest)
	}
	return data, err
}
