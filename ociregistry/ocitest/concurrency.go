package ocitest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Every method is safe for concurrent use. Run these clauses with -race too.

var concurrencyClauses = []clause{
	{name: "OneBlob", needs: PushBlobs, run: concurrentBlob},
	{name: "OneTag", needs: MoveTags, run: concurrentTag},
	{name: "DeleteBlobAndPushManifest", needs: PushBlobs | DeleteBlobs | DeleteManifests | MoveTags, run: concurrentBlobDelete, when: isComplete},
	{name: "DeleteChildAndPushIndex", needs: DeleteManifests | MoveTags, run: concurrentChildDelete, when: isComplete},
	{name: "DeleteManifestAndPushTag", needs: DeleteManifests | MoveTags | ListTags, run: concurrentTagDelete},
	{name: "DeleteBlobAndMount", needs: PushBlobs | DeleteBlobs | Mount, run: concurrentMount},
	{name: "RepositoriesComeAndGo", needs: PushBlobs | DeleteBlobs, run: concurrentRepositories},
	{name: "ListsStayInOrder", needs: MoveTags | DeleteTags | ListTags, run: concurrentLists},
	{name: "WritersOfOneSession", needs: ResumeUploads, run: concurrentWriters},
	{name: "CommitAndWrite", needs: ResumeUploads, run: concurrentCommit},
	{name: "ManyOfEverything", needs: PushBlobs | PushChunks | MoveTags | DeleteTags | ListTags, run: concurrentEverything},
}

// unless returns err, with the call that returned it, unless err is nil or one of the
// sentinels.
func unless(err error, what string, sentinels ...error) error {
	if err == nil || slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) }) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Concurrent pushes of one blob do not disturb each other, whether they succeed or fail.
func concurrentBlob(t *test) {
	data := content(1, 200_000)
	desc := describe(data)
	t.together(8, func(i int) error {
		repo := fmt.Sprint("foo", i%2)
		for range t.scale(8) {
			if i%4 == 3 {
				if err := t.pushBlob(repo, desc, bytes.NewReader(data[1:])); err == nil {
					return errors.New("PushBlob of less content than was announced: got no error")
				}
				continue
			}
			if err := t.pushBlob(repo, desc, bytes.NewReader(data)); err != nil {
				return fmt.Errorf("PushBlob: %w", err)
			}
			if got, _, err := read(t.reg.GetBlob(t.Context(), repo, desc.Digest)); err != nil || !bytes.Equal(got, data) {
				return fmt.Errorf("GetBlob after PushBlob: error %v; %s", err, diffBytes(got, data))
			}
		}
		return nil
	})
	t.wantBlob("foo0", data, desc.Digest)
	t.wantBlob("foo1", data, desc.Digest)
}

// meanwhile calls each function repeatedly in a separate goroutine, until each has been
// called at least rounds times. It ends the test at the first error.
func (t *test) meanwhile(rounds int, fs ...func(round int) error) {
	t.Helper()
	var left, failed atomic.Int32
	left.Store(int32(len(fs)))
	t.together(len(fs), func(i int) error {
		for round := 0; left.Load() > 0 && failed.Load() == 0; round++ {
			if round == rounds {
				left.Add(-1)
			}
			if err := fs[i](round); err != nil {
				failed.Add(1)
				return err
			}
			jitter()
		}
		return nil
	})
}

// A tag that is moved between manifests always points at one of them, which can be read
// completely.
func concurrentTag(t *test) {
	t.mustPush("foo", numbered(0), "v1")
	var fs []func(int) error
	for i := range 4 {
		a := numbered(i)
		fs = append(fs, func(int) error {
			return unless(t.pushManifest("foo", "v1", a.Manifest, a.Descriptor.MediaType), "PushManifest")
		}, func(int) error {
			contents, desc, err := read(t.reg.GetTag(t.Context(), "foo", "v1"))
			if err != nil {
				return fmt.Errorf("GetTag: %w", err)
			}
			a := numbered(numberOf(contents))
			if !bytes.Equal(contents, a.Manifest) || desc.Digest != a.Descriptor.Digest {
				return fmt.Errorf("GetTag: got %q with digest %s, which nobody pushed", contents, desc.Digest)
			}
			return nil
		})
	}
	t.meanwhile(t.scale(24), fs...)
}

// A list is in order and has every element that remains, whatever else happens.
func concurrentLists(t *test) {
	var stay []string
	for i := range 50 {
		stay = append(stay, fmt.Sprintf("v%03d", 2*i))
	}
	t.mustPushTags("foo", stay...)
	a := numbered(1)
	ctx := t.Context()
	change := func(n int) error {
		tag := fmt.Sprintf("v%03d", 2*(n%50)+1)
		if err := t.pushManifest("foo", tag, a.Manifest, a.Descriptor.MediaType); err != nil {
			return fmt.Errorf("PushManifest: %w", err)
		}
		jitter()
		return unless(t.reg.DeleteTag(ctx, "foo", tag), "DeleteTag")
	}
	t.meanwhile(t.scale(40), func(round int) error {
		return change(2 * round)
	}, func(round int) error {
		return change(2*round + 1)
	}, func(int) error {
		var tags []string
		for tag, err := range t.reg.Tags(ctx, "foo", "") {
			if err != nil {
				return fmt.Errorf("list of tags: %w", err)
			}
			tags = append(tags, tag)
			jitter()
		}
		if !slices.IsSorted(tags) || len(slices.Compact(slices.Clone(tags))) != len(tags) {
			return fmt.Errorf("tags are not in order: %q", tags)
		}
		for _, tag := range stay {
			if _, found := slices.BinarySearch(tags, tag); !found {
				return fmt.Errorf("tag %s, which was never deleted, is not in %q", tag, tags)
			}
		}
		return nil
	})
}

// One of several writers at one offset succeeds, and their bytes are never mixed.
func concurrentWriters(t *test) {
	type block struct {
		offset int64
		data   []byte
	}
	var mu sync.Mutex
	var blocks []block
	id := t.mustPark("foo", nil)
	t.together(4, func(i int) error {
		for n := 0; n < t.scale(12); {
			w, err := t.reg.PushBlobChunkedResume(t.Context(), "foo", id, -1, 0)
			if err != nil {
				return fmt.Errorf("PushBlobChunkedResume: %w", err)
			}
			jitter()
			b := block{w.Size(), bytes.Repeat([]byte{byte('a' + i)}, 100+7*n)}
			_, err = w.Write(b.data)
			err = cmp.Or(err, w.Close()) // over HTTP, Close may be what sends
			if errors.Is(err, ociregistry.ErrRangeInvalid) {
				continue
			}
			if err != nil {
				return fmt.Errorf("write to an upload: %w", err)
			}
			n++
			mu.Lock()
			blocks = append(blocks, b)
			mu.Unlock()
		}
		return nil
	})
	slices.SortFunc(blocks, func(a, b block) int { return cmp.Compare(a.offset, b.offset) })
	var data []byte
	for _, b := range blocks {
		if b.offset != int64(len(data)) {
			t.Fatalf("a Write at %d was acknowledged, when the one before ended at %d", b.offset, len(data))
		}
		data = append(data, b.data...)
	}
	w := t.mustResume("foo", id, int64(len(data)))
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

// Bytes that are written between the check and the publication of Commit are not in the
// blob: either the Write fails or the Commit.
func concurrentCommit(t *test) {
	data := content(1, 20_000)
	desc := describe(data)
	for round := range t.scale(40) {
		repo := fmt.Sprint("foo", round)
		id := t.mustPark(repo, data)
		first, second := t.mustResume(repo, id, -1), t.mustResume(repo, id, -1)
		var errs [2]error
		t.together(2, func(i int) error {
			if i == 0 {
				_, errs[0] = first.Commit(desc.Digest)
				return unless(errs[0], "Commit", ociregistry.ErrRangeInvalid, ociregistry.ErrDigestInvalid)
			}
			for range 10 {
				if _, errs[1] = second.Write([]byte("more")); errs[1] != nil {
					break
				}
			}
			return unless(errs[1], "Write", ociregistry.ErrRangeInvalid, ociregistry.ErrBlobUploadUnknown, ociregistry.ErrBlobUploadInvalid)
		})
		if errs[0] == nil {
			t.wantBlob(repo, data, desc.Digest)
		} else {
			t.wantNoRepository(repo, "after a Commit that failed")
		}
		if errs[0] == nil && errs[1] == nil && !t.opts.Remote {
			t.Errorf("Commit and a Write of another writer at the same offset both succeeded")
		}
		second.Cancel()
	}
}

// Many goroutines push, read, tag, list and delete in one repository. What was acknowledged
// to each of them remains.
func concurrentEverything(t *test) {
	n := t.scale(200)
	ctx := t.Context()
	images := make([]*Artifact, n)
	for i := range images {
		images[i] = NewImage(Spec{Seed: uint64(i), Layers: []int64{50, 100}})
	}
	t.together(n, func(i int) error {
		image, tag, next := images[i], fmt.Sprint("v", i), fmt.Sprint("v", (i+1)%n)
		if err := image.Push(ctx, t.reg, "foo", tag, tag+"-gone", "latest"); err != nil {
			return err
		}
		w, err := t.reg.PushBlobChunked(ctx, "foo", 0)
		if err != nil {
			return fmt.Errorf("PushBlobChunked: %w", err)
		}
		if _, err := w.Write([]byte(tag)); err != nil {
			return fmt.Errorf("write to an upload: %w", err)
		}
		if _, err := w.Commit(describe([]byte(tag)).Digest); err != nil {
			return fmt.Errorf("commit of an upload: %w", err)
		}
		if err := t.reg.DeleteTag(ctx, "foo", tag+"-gone"); err != nil {
			return fmt.Errorf("DeleteTag: %w", err)
		}
		_, _, err = read(t.reg.GetTag(ctx, "foo", next))
		if err := unless(err, "GetTag", ociregistry.ErrManifestUnknown); err != nil {
			return err
		}
		for got, err := range t.reg.Tags(ctx, "foo", tag[:1]) {
			if err != nil || got == "" {
				return fmt.Errorf("list of tags: got %q and error %v", got, err)
			}
			break
		}
		return image.Verify(ctx, t.reg, "foo")
	})
	want := []string{"latest"}
	for i, image := range images {
		tag := fmt.Sprint("v", i)
		want = append(want, tag)
		t.wantManifest("foo", image.Manifest, image.Descriptor, tag)
		t.must(image.Verify(ctx, t.reg, "foo"), "reading what was pushed by one of many")
		t.wantBlob("foo", []byte(tag), describe([]byte(tag)).Digest)
	}
	slices.Sort(want)
	t.wantTags("foo", want...)
	latest, err := t.reg.ResolveTag(ctx, "foo", "latest")
	t.must(err, "ResolveTag")
	if !slices.ContainsFunc(images, func(a *Artifact) bool { return a.Descriptor.Digest == latest.Digest }) {
		t.Errorf("ResolveTag: the tag that all moved is at %s, which nobody pushed", latest.Digest)
	}
}
