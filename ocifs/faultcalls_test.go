//go:build unix

package ocifs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// stock is a registry to make calls of, and content to make them with. Small is
// what travels in the journal, large what does not.
type stock struct {
	*universe
	session string // of repository a: half of large3 was written

	// In a, with the tags that their names say, and large2 in b, too. Nothing
	// needs small1, large1 and large2.
	image1, image2, index, artifact *ocitest.Artifact // tags v1 and v2, w, all, none
	unpushed                        *ocitest.Artifact // its blobs only
	small1, large1, large2          ociregistry.Descriptor
	lonely                          *ocitest.Artifact // in c/d, which has only that; tag one

	// Nowhere.
	small3, large3 ociregistry.Descriptor
}

func newStock() *stock {
	u := newUniverse("a", "b", "c/d", "n/m")
	s := &stock{universe: u}
	s.image1 = u.add(ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{300, 20_000}}))
	s.image2 = u.add(ocitest.NewImage(ocitest.Spec{Seed: 2, Layers: []int64{400}}))
	s.index = u.add(ocitest.NewIndex(ocitest.Spec{}, s.image1, s.image2))
	s.artifact = u.add(ocitest.NewImage(ocitest.Spec{Seed: 3, ArtifactType: "application/x", Layers: []int64{50}, Subject: &s.image1.Descriptor}))
	s.unpushed = u.add(ocitest.NewImage(ocitest.Spec{Seed: 4, Layers: []int64{500, 18_000}}))
	s.small1, s.large1, s.large2 = u.blob(11, 600), u.blob(12, 21_000), u.blob(13, 22_000)
	s.small3, s.large3 = u.blob(14, 700), u.blob(15, 40_000)
	u.blobs[emptyDigest] = nil
	s.lonely = u.add(&ocitest.Artifact{
		Descriptor: ociregistry.Descriptor{MediaType: "text/plain", Digest: digest.FromString("lonely"), Size: 6},
		Manifest:   []byte("lonely"),
	})
	return s
}

// fill pushes to an empty registry what is in one at first.
func (s *stock) fill(ctx context.Context, r ociregistry.Interface) error {
	push := func(repo string, desc ociregistry.Descriptor) error {
		_, err := r.PushBlob(ctx, repo, desc, bytes.NewReader(s.blobs[desc.Digest]))
		return err
	}
	for _, f := range []func() error{
		func() error { return s.image1.Push(ctx, r, "a", "v1", "v2") },
		func() error { return s.image2.Push(ctx, r, "a", "w") },
		func() error { return s.index.Push(ctx, r, "a", "all") },
		func() error { return s.artifact.Push(ctx, r, "a") },
		func() error { return push("a", s.unpushed.Blobs[0].Descriptor) },
		func() error { return push("a", s.unpushed.Blobs[1].Descriptor) },
		func() error { return push("a", s.unpushed.Blobs[2].Descriptor) },
		func() error { return push("a", s.small1) },
		func() error { return push("a", s.large1) },
		func() error { return push("a", s.large2) },
		func() error { return push("b", s.large2) },
		func() error { return s.lonely.Push(ctx, r, "c/d", "one") },
		func() error {
			w, err := r.PushBlobChunked(ctx, "a", 0)
			if err != nil {
				return err
			}
			s.session = w.ID()
			if _, err := w.Write(s.blobs[s.large3.Digest][:20_000]); err != nil {
				return err
			}
			return w.Close()
		},
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// faultCall is something that is done while calls of the system fail.
type faultCall struct {
	name    string
	prepare func(e *faultEnv) error           // comes before, and does not fail
	run     func(e *faultEnv) (string, error) // returns what was read
	again   func(e *faultEnv) (string, error) // comes after an error, if it is not run
	undo    func(e *faultEnv) error           // comes after an error: the caller's own part in leaving no trace
	finish  func(e *faultEnv) error           // comes at the end, and does not fail

	vanishes bool // when it is done it cannot be done again

	either  bool // it may be done although something else has failed
	gradual bool // what it does is not undone when it fails half way: the next one goes on
	partial bool // it leaves out what it cannot read, and tells the logger

	// lost says whether the call cannot be made again after an error of a call of
	// the system, and checks that this is so.
	lost func(e *faultEnv, call string) bool
}

func (e *faultEnv) push(repo string, desc ociregistry.Descriptor) (string, error) {
	_, err := e.r.PushBlob(e.ctx, repo, desc, bytes.NewReader(e.blobs[desc.Digest]))
	return "", err
}

func (e *faultEnv) start(repo string) (err error) {
	e.w, err = e.r.PushBlobChunked(e.ctx, repo, 0)
	return err
}

func (e *faultEnv) resume() (err error) {
	e.w, err = e.r.PushBlobChunkedResume(e.ctx, "a", e.session, -1, 0)
	return err
}

// write writes the rest of a blob, from what the writer says that it has.
func (e *faultEnv) write(desc ociregistry.Descriptor) error {
	for data := e.blobs[desc.Digest]; e.w.Size() < desc.Size; {
		if _, err := e.w.Write(data[e.w.Size():min(desc.Size, e.w.Size()+9000)]); err != nil {
			return err
		}
	}
	return nil
}

// staysFailed checks that a writer whose Write has failed fails again. Only another
// writer can go on.
func (e *faultEnv) staysFailed() (string, error) {
	if _, err := e.w.Write([]byte("x")); err == nil {
		return "", errors.New("a Write after one that failed succeeded")
	}
	return "", nil
}

func (e *faultEnv) commit(desc ociregistry.Descriptor) error {
	_, err := e.w.Commit(desc.Digest)
	return err
}

func (e *faultEnv) cancel() error {
	if e.w == nil {
		return nil
	}
	return e.w.Cancel()
}

// upload is a whole upload.
func (e *faultEnv) upload(repo string, desc ociregistry.Descriptor) (string, error) {
	e.w = nil
	err := e.start(repo)
	if err == nil {
		err = e.write(desc)
	}
	if err == nil {
		err = e.commit(desc)
	}
	return "", err
}

// end ends what an upload of large3 has begun, by its id.
func (e *faultEnv) end() error {
	e.session = e.w.ID()
	err := e.w.Close()
	if err == nil {
		err = e.resume()
	}
	if err == nil {
		err = e.write(e.large3)
	}
	if err == nil {
		err = e.commit(e.large3)
	}
	return err
}

// lostContent reports whether the sync of an upload's content failed, after which
// no later success could be believed, and the session is over.
func (e *faultEnv) lostContent(call string) bool {
	return strings.HasPrefix(call, "sync ") && strings.Contains(call, "/uploads/") &&
		errors.Is(e.resume(), ociregistry.ErrBlobUploadUnknown)
}

// text reads b to the end.
func text(b ociregistry.BlobReader, err error) (string, error) {
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(b)
	if closeErr := b.Close(); err == nil {
		err = closeErr
	}
	return fmt.Sprint(b.Descriptor(), string(text)), err
}

func described(desc ociregistry.Descriptor, err error) (string, error) {
	return fmt.Sprint(desc), err
}

func joined(list []string, err error) (string, error) {
	slices.Sort(list)
	return strings.Join(list, " "), err
}

const emptyDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// pushCalls are those that add content.
var pushCalls = []faultCall{
	{name: "PushBlob small", run: func(e *faultEnv) (string, error) { return e.push("a", e.small3) }},
	{name: "PushBlob large", run: func(e *faultEnv) (string, error) { return e.push("a", e.large3) }},
	{name: "PushBlob small again", run: func(e *faultEnv) (string, error) { return e.push("a", e.small1) }},
	{name: "PushBlob large again", run: func(e *faultEnv) (string, error) { return e.push("a", e.large1) }},
	{name: "PushBlob small that another has", run: func(e *faultEnv) (string, error) { return e.push("b", e.small1) }},
	{name: "PushBlob large that another has", run: func(e *faultEnv) (string, error) { return e.push("b", e.large1) }},
	{name: "PushBlob small in a new repository", run: func(e *faultEnv) (string, error) { return e.push("n/m", e.small3) }},
	{name: "PushBlob large in a new repository", run: func(e *faultEnv) (string, error) { return e.push("n/m", e.large3) }},
	{name: "PushBlob after another", // when everything that the registry makes only once is made
		prepare: func(e *faultEnv) error { _, err := e.push("a", e.small3); return err },
		run:     func(e *faultEnv) (string, error) { return e.push("a", e.large3) }},
	{name: "MountBlob small", run: func(e *faultEnv) (string, error) { return described(e.r.MountBlob(e.ctx, "a", "b", e.small1.Digest)) }},
	{name: "MountBlob large", run: func(e *faultEnv) (string, error) { return described(e.r.MountBlob(e.ctx, "a", "b", e.large1.Digest)) }},
	{name: "MountBlob from any", run: func(e *faultEnv) (string, error) { return described(e.r.MountBlob(e.ctx, "", "b", e.large1.Digest)) }},
	{name: "MountBlob in a new repository", run: func(e *faultEnv) (string, error) { return described(e.r.MountBlob(e.ctx, "a", "n/m", e.large1.Digest)) }},
	{name: "PushManifest", run: func(e *faultEnv) (string, error) {
		return described(e.r.PushManifest(e.ctx, "a", "x1", e.unpushed.Manifest, e.unpushed.Descriptor.MediaType, "x2", "v1"))
	}},
	{name: "PushManifest by digest", run: func(e *faultEnv) (string, error) {
		return described(e.r.PushManifest(e.ctx, "a", string(e.unpushed.Descriptor.Digest), e.unpushed.Manifest, e.unpushed.Descriptor.MediaType))
	}},
	{name: "PushManifest again", run: func(e *faultEnv) (string, error) {
		return described(e.r.PushManifest(e.ctx, "a", "v1", e.image1.Manifest, e.image1.Descriptor.MediaType))
	}},
	{name: "PushManifest that moves a tag", run: func(e *faultEnv) (string, error) {
		return described(e.r.PushManifest(e.ctx, "a", "v1", e.image2.Manifest, e.image2.Descriptor.MediaType, "w", "x"))
	}},
	{name: "PushManifest in a new repository", run: func(e *faultEnv) (string, error) {
		return described(e.r.PushManifest(e.ctx, "n/m", "x", e.lonely.Manifest, e.lonely.Descriptor.MediaType))
	}},
}

// uploadCalls are those of upload sessions.
var uploadCalls = []faultCall{
	{name: "upload small",
		run:  func(e *faultEnv) (string, error) { return e.upload("a", e.small3) },
		undo: (*faultEnv).cancel},
	{name: "upload large",
		run:  func(e *faultEnv) (string, error) { return e.upload("a", e.large3) },
		undo: (*faultEnv).cancel},
	{name: "upload large that another has",
		run:  func(e *faultEnv) (string, error) { return e.upload("b", e.large1) },
		undo: (*faultEnv).cancel},
	{name: "upload in a new repository",
		run:  func(e *faultEnv) (string, error) { return e.upload("n/m", e.large3) },
		undo: (*faultEnv).cancel},
	{name: "upload of nothing",
		run: func(e *faultEnv) (string, error) {
			return e.upload("b", ociregistry.Descriptor{Digest: emptyDigest})
		},
		undo: (*faultEnv).cancel},
	{name: "PushBlobChunked",
		run:    func(e *faultEnv) (string, error) { return "", e.start("a") },
		finish: (*faultEnv).end},
	{name: "BlobWriter.Write",
		prepare: func(e *faultEnv) error { return e.start("a") },
		run:     func(e *faultEnv) (string, error) { return "", e.write(e.large3) },
		again:   (*faultEnv).staysFailed,
		finish:  (*faultEnv).end,
		gradual: true},
	{name: "BlobWriter.Close",
		prepare: func(e *faultEnv) error {
			e.start("a")
			_, err := e.w.Write(e.blobs[e.large3.Digest][:30_000])
			return err
		},
		run:    func(e *faultEnv) (string, error) { return "", e.w.Close() },
		finish: (*faultEnv).end},
	{name: "PushBlobChunkedResume",
		run: func(e *faultEnv) (string, error) {
			err := e.resume()
			if err != nil {
				return "", err
			}
			return fmt.Sprint(e.w.Size()), nil
		},
		finish: (*faultEnv).end},
	{name: "PushBlobChunkedResume at an offset",
		run: func(e *faultEnv) (_ string, err error) {
			e.w, err = e.r.PushBlobChunkedResume(e.ctx, "a", e.session, 20_000, 0)
			return "", err
		},
		finish: (*faultEnv).end},
	{name: "BlobWriter.Write to a session that was resumed",
		prepare: (*faultEnv).resume,
		run:     func(e *faultEnv) (string, error) { return "", e.write(e.large3) },
		again:   (*faultEnv).staysFailed,
		finish:  (*faultEnv).end,
		gradual: true},
	{name: "BlobWriter.Commit",
		prepare: func(e *faultEnv) error { e.resume(); return e.write(e.large3) },
		run:     func(e *faultEnv) (string, error) { return "", e.commit(e.large3) },
		lost:    (*faultEnv).lostContent},
	{name: "BlobWriter.Commit, resumed after an error",
		prepare: func(e *faultEnv) error { e.resume(); return e.write(e.large3) },
		run:     func(e *faultEnv) (string, error) { return "", e.commit(e.large3) },
		again:   func(e *faultEnv) (string, error) { return "", e.end() },
		lost:    (*faultEnv).lostContent},
	{name: "BlobWriter.Cancel",
		prepare: (*faultEnv).resume,
		run:     func(e *faultEnv) (string, error) { return "", e.cancel() },
		finish: func(e *faultEnv) error {
			if err := e.resume(); !errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
				return fmt.Errorf("resuming what was cancelled: %v", err)
			}
			return nil
		}},
}

// deleteCalls are those that remove content.
var deleteCalls = []faultCall{
	{vanishes: true, name: "DeleteTag", run: func(e *faultEnv) (string, error) { return "", e.r.DeleteTag(e.ctx, "a", "v1") }},
	{vanishes: true, name: "DeleteManifest with tags",
		prepare: func(e *faultEnv) error { return e.r.DeleteManifest(e.ctx, "a", e.index.Descriptor.Digest) },
		run: func(e *faultEnv) (string, error) {
			return "", e.r.DeleteManifest(e.ctx, "a", e.image1.Descriptor.Digest)
		}},
	{vanishes: true, name: "DeleteManifest", run: func(e *faultEnv) (string, error) {
		return "", e.r.DeleteManifest(e.ctx, "a", e.artifact.Descriptor.Digest)
	}},
	{vanishes: true, name: "DeleteManifest that is the last thing", run: func(e *faultEnv) (string, error) {
		return "", e.r.DeleteManifest(e.ctx, "c/d", e.lonely.Descriptor.Digest)
	}},
	{vanishes: true, name: "DeleteBlob small", run: func(e *faultEnv) (string, error) { return "", e.r.DeleteBlob(e.ctx, "a", e.small1.Digest) }},
	{vanishes: true, name: "DeleteBlob large", run: func(e *faultEnv) (string, error) { return "", e.r.DeleteBlob(e.ctx, "a", e.large1.Digest) }},
	{vanishes: true, name: "DeleteBlob that another has", run: func(e *faultEnv) (string, error) { return "", e.r.DeleteBlob(e.ctx, "a", e.large2.Digest) }},
	{vanishes: true, name: "DeleteBlob that is the last thing", run: func(e *faultEnv) (string, error) { return "", e.r.DeleteBlob(e.ctx, "b", e.large2.Digest) }},
}

// collectCalls collect garbage: one thing, so that it is done or not.
var collectCalls = []faultCall{
	{either: true, gradual: true, name: "GC of a blob", prepare: (*faultEnv).tidy, run: func(e *faultEnv) (string, error) {
		return e.collect(&ocigc.Options{Delay: -1})
	}},
	{either: true, gradual: true, name: "GC of a manifest", prepare: func(e *faultEnv) error {
		return errors.Join(e.tidy(), e.pushUnpushed())
	}, run: func(e *faultEnv) (string, error) {
		return e.collect(&ocigc.Options{Policies: []ocigc.Policy{{Untagged: true, UntaggedDelay: -1}}})
	}},
}

// tidy removes all that no manifest names but large1.
func (e *faultEnv) tidy() error {
	var errs []error
	for _, repo := range e.repos {
		for digest := range e.blobs {
			if err := e.r.DeleteBlob(e.ctx, repo, digest); err != nil && !isSentinel(err) {
				errs = append(errs, err)
			}
		}
	}
	_, err := e.push("a", e.large1)
	return errors.Join(append(errs, err)...)
}

func (e *faultEnv) pushUnpushed() error {
	for _, b := range e.unpushed.Blobs {
		if _, err := e.push("a", b.Descriptor); err != nil {
			return err
		}
	}
	_, err := e.r.PushManifest(e.ctx, "a", "", e.unpushed.Manifest, e.unpushed.Descriptor.MediaType)
	return err
}

func (e *faultEnv) collect(opts *ocigc.Options) (string, error) {
	report, err := e.r.GC(e.ctx, opts)
	if report != nil {
		for _, p := range report.Problems {
			err = errors.Join(err, p)
		}
	}
	return "", err
}

// readCalls are those that change nothing.
var readCalls = []faultCall{
	{name: "GetBlob small", run: func(e *faultEnv) (string, error) { return text(e.r.GetBlob(e.ctx, "a", e.small1.Digest)) }},
	{name: "GetBlob large", run: func(e *faultEnv) (string, error) { return text(e.r.GetBlob(e.ctx, "a", e.large1.Digest)) }},
	{name: "GetBlob of an image", run: func(e *faultEnv) (string, error) {
		return text(e.r.GetBlob(e.ctx, "a", e.image1.Blobs[2].Descriptor.Digest))
	}},
	{name: "GetBlob that is not there", run: func(e *faultEnv) (string, error) { return text(e.r.GetBlob(e.ctx, "a", e.large3.Digest)) }},
	{name: "GetBlob in an unknown repository", run: func(e *faultEnv) (string, error) { return text(e.r.GetBlob(e.ctx, "n/m", e.large3.Digest)) }},
	{name: "GetBlobRange", run: func(e *faultEnv) (string, error) {
		return text(e.r.GetBlobRange(e.ctx, "a", e.large1.Digest, 5000, 15_000))
	}},
	{name: "ResolveBlob", run: func(e *faultEnv) (string, error) {
		return described(e.r.ResolveBlob(e.ctx, "a", e.image1.Blobs[2].Descriptor.Digest))
	}},
	{name: "GetManifest", run: func(e *faultEnv) (string, error) {
		return text(e.r.GetManifest(e.ctx, "a", e.image1.Descriptor.Digest))
	}},
	{name: "GetManifest that is not there", run: func(e *faultEnv) (string, error) {
		return text(e.r.GetManifest(e.ctx, "a", e.unpushed.Descriptor.Digest))
	}},
	{name: "ResolveManifest", run: func(e *faultEnv) (string, error) {
		return described(e.r.ResolveManifest(e.ctx, "a", e.image1.Descriptor.Digest))
	}},
	{name: "GetTag", run: func(e *faultEnv) (string, error) { return text(e.r.GetTag(e.ctx, "a", "v1")) }},
	{name: "ResolveTag", run: func(e *faultEnv) (string, error) { return described(e.r.ResolveTag(e.ctx, "a", "v1")) }},
	{name: "ResolveTag that is not there", run: func(e *faultEnv) (string, error) { return described(e.r.ResolveTag(e.ctx, "a", "none")) }},
	{name: "Tags", run: func(e *faultEnv) (string, error) { return joined(collect(e.r.Tags(e.ctx, "a", ""))) }},
	{partial: true, name: "Repositories", run: func(e *faultEnv) (string, error) { return joined(collect(e.r.Repositories(e.ctx, ""))) }},
	{partial: true, name: "Referrers", run: func(e *faultEnv) (string, error) {
		list, err := collect(e.r.Referrers(e.ctx, "a", e.image1.Descriptor.Digest, ""))
		return fmt.Sprint(list), err
	}},
	{name: "DeleteBlob in use", run: func(e *faultEnv) (string, error) {
		return "", e.r.DeleteBlob(e.ctx, "a", e.image1.Blobs[2].Descriptor.Digest)
	}},
	{name: "DeleteManifest in use", run: func(e *faultEnv) (string, error) {
		return "", e.r.DeleteManifest(e.ctx, "a", e.image1.Descriptor.Digest)
	}},
	{name: "PushBlob of other bytes", run: func(e *faultEnv) (string, error) {
		return described(e.r.PushBlob(e.ctx, "a", e.large3, io.LimitReader(bytes.NewReader(make([]byte, e.large3.Size)), e.large3.Size)))
	}},
	{name: "PushManifest without its blobs", run: func(e *faultEnv) (string, error) {
		return described(e.r.PushManifest(e.ctx, "b", "x", e.image1.Manifest, ocispec.MediaTypeImageManifest))
	}},
	{name: "MountBlob that is nowhere", run: func(e *faultEnv) (string, error) { return described(e.r.MountBlob(e.ctx, "", "b", e.large3.Digest)) }},
}

// lifeCalls are those of a registry's life.
var lifeCalls = []faultCall{
	{partial: true, name: "open",
		prepare: (*faultEnv).close,
		run:     func(e *faultEnv) (string, error) { return "", e.open() },
		gradual: true},
	{name: "Close",
		prepare: (*faultEnv).change,
		run:     func(e *faultEnv) (string, error) { return "", e.close() },
		again:   func(e *faultEnv) (string, error) { return "", nil },
		gradual: true},
	{name: "rest", // the registry does what it has put off
		prepare: (*faultEnv).change,
		run:     func(e *faultEnv) (string, error) { time.Sleep(time.Second); return "", nil },
		finish: func(e *faultEnv) error {
			time.Sleep(time.Second)
			return nil
		}},
}

// change changes a little of everything.
func (e *faultEnv) change() error {
	_, err1 := e.push("a", e.small3)
	_, err2 := e.push("n/m", e.small3)
	_, err3 := e.r.PushManifest(e.ctx, "a", "x1", e.unpushed.Manifest, e.unpushed.Descriptor.MediaType, "v1")
	return errors.Join(err1, err2, err3,
		e.r.DeleteBlob(e.ctx, "a", e.small1.Digest),
		e.r.DeleteTag(e.ctx, "a", "v2"),
		e.r.DeleteManifest(e.ctx, "a", e.artifact.Descriptor.Digest),
		e.r.DeleteManifest(e.ctx, "c/d", e.lonely.Descriptor.Digest),
	)
}
