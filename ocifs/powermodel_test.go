//go:build unix

package ocifs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A worker makes random calls, one after another, of things that no other
// worker changes. So it knows what each call must answer, and what must be there
// after the power was cut.
type worker struct {
	name     string
	rnd      *rand.Rand
	u        *universe
	r        ociregistry.Interface
	off      func() bool // whether the power is off
	flaky    bool        // whether calls may fail with EIO
	cutShort bool        // whether calls were interrupted before
	alone    bool        // there are no other workers

	// damaged is whether a cut may have left anything behind, since nothing was
	// synced. Then no answer is wrong until everything was pushed again.
	damaged bool

	blobs     []ociregistry.Descriptor
	manifests []*ocitest.Artifact
	tags      []string
	shared    []ociregistry.Descriptor // other workers push them too, and nobody deletes them

	state  map[string]string   // what r must show: by thing, "" or absent if it is not there
	maybe  map[string][]string // what may be there as well after a cut
	flight []step              // the steps of the call that the cut ended
	open   []*openUpload
	log    []string // the calls
}

// step is one thing that a call changes. A call does all of its steps or none.
type step struct{ thing, to string }

// openUpload is an upload session that was not ended.
type openUpload struct {
	repo, id string
	desc     ociregistry.Descriptor
	sent     int64 // the maximum number of bytes that are there
}

const present = "present"

func blobThing(repo string, digest ociregistry.Digest) string {
	return fmt.Sprintf("%s blob %s", repo, digest)
}

func manifestThing(repo string, digest ociregistry.Digest) string {
	return fmt.Sprintf("%s manifest %s", repo, digest)
}

func tagThing(repo, tag string) string { return repo + ":" + tag }

// newWorker returns a worker with content of its own.
func newWorker(u *universe, number int, shared []ociregistry.Descriptor) *worker {
	w := &worker{
		name:   fmt.Sprint("w", number),
		u:      u,
		shared: shared,
		state:  make(map[string]string),
		maybe:  make(map[string][]string),
	}
	seed := uint64(number) * 100
	image1 := u.add(ocitest.NewImage(ocitest.Spec{Seed: seed + 1, Layers: []int64{300, 17_000}}))
	image2 := u.add(ocitest.NewImage(ocitest.Spec{Seed: seed + 2, Layers: []int64{5000}}))
	index := u.add(ocitest.NewIndex(ocitest.Spec{Annotations: map[string]string{"of": w.name}}, image1, image2))
	artifact := u.add(ocitest.NewIndex(ocitest.Spec{Subject: &image1.Descriptor, Annotations: map[string]string{"of": w.name}}))
	w.manifests = []*ocitest.Artifact{image1, image2, index, artifact}
	for _, b := range slices.Concat(image1.Blobs, image2.Blobs) {
		w.blobs = append(w.blobs, b.Descriptor)
	}
	w.blobs = append(w.blobs, u.blob(seed+3, 900), u.blob(seed+4, 21_000))
	for i := range 3 {
		w.tags = append(w.tags, fmt.Sprint(w.name, "-", i))
	}
	return w
}

// run makes calls until the power goes off. It returns what was wrong.
func (w *worker) run(ctx context.Context, calls int) error {
	for range calls {
		if w.off() {
			return nil
		}
		if err := w.call(ctx); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

func (w *worker) call(ctx context.Context) error {
	repo := pick(w.rnd, w.u.repos)
	desc := pick(w.rnd, w.blobs)
	a := pick(w.rnd, w.manifests)
	switch w.rnd.IntN(25) {
	case 0, 1:
		return w.pushBlob(ctx, repo, desc)
	case 2:
		return w.pushBlob(ctx, repo, pick(w.rnd, w.shared))
	case 3, 4:
		return w.upload(ctx, repo, desc)
	case 5:
		return w.goOn(ctx)
	case 6, 7:
		return w.mount(ctx, repo, desc)
	case 8, 9, 10, 11:
		return w.pushImage(ctx, repo, a)
	case 12:
		return w.deleteTag(ctx, repo, pick(w.rnd, w.tags))
	case 13:
		return w.deleteManifest(ctx, repo, a)
	case 14, 15, 22, 23:
		return w.deleteBlob(ctx, repo, desc)
	case 16, 17:
		return w.look(ctx, repo, desc, a)
	case 18, 19, 20:
		w.say("rest")
		time.Sleep(time.Second)
	case 24:
		if w.alone {
			return w.collect(ctx)
		}
	case 21:
		w.say("rest a little")
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

func pick[T any](rnd *rand.Rand, list []T) T { return list[rnd.IntN(len(list))] }

func (w *worker) say(format string, args ...any) {
	w.log = append(w.log, w.name+": "+fmt.Sprintf(format, args...))
}

// answered takes note of how a call ended that was to do the steps, and must
// answer with the given sentinel, if not nil.
func (w *worker) answered(ctx context.Context, err, want error, what string, steps ...step) error {
	w.say("%s: %v", what, err)
	switch {
	case w.damaged && err != nil:
		return nil
	case err == nil && want != nil && !w.damaged:
		return fmt.Errorf("%s: there is no error; it should be %v", what, want)
	case err == nil:
		for _, s := range steps {
			w.state[s.thing] = s.to
			delete(w.maybe, s.thing)
		}
		return nil
	case want != nil && errors.Is(err, want):
		return nil
	case w.off():
		if w.flight == nil {
			w.flight = steps
		}
		w.mayHave(steps)
		return nil
	case w.flaky && errors.Is(err, syscall.EIO):
		w.mayHave(steps)
		return w.lookAgain(ctx, what, steps)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (w *worker) mayHave(steps []step) {
	for _, s := range steps {
		w.maybe[s.thing] = append(w.maybe[s.thing], s.to)
	}
}

// lookAgain finds out what a call has done that failed: nothing, unless the
// error came too late to undo it, and then everything.
func (w *worker) lookAgain(ctx context.Context, what string, steps []step) error {
	var found []string
	for range 2 { // another worker may have pushed what both push, between two looks at it
		done, undone := true, true
		found = nil
		for _, s := range steps {
			got := w.ask(ctx, s.thing)
			if w.off() {
				return nil
			}
			found = append(found, got)
			done = done && got == s.to
			undone = undone && got == w.state[s.thing]
		}
		switch {
		case undone:
			return nil
		case done:
			for _, s := range steps {
				w.maybe[s.thing] = append(w.maybe[s.thing], w.state[s.thing])
				w.state[s.thing] = s.to
			}
			return nil
		}
	}
	return fmt.Errorf("%s: it failed, and is half done: %v, found %q", what, steps, found)
}

// ask returns what the registry shows of a thing.
func (w *worker) ask(ctx context.Context, thing string) string {
	said := "absent"
	for _, repo := range w.u.repos {
		for _, desc := range slices.Concat(w.blobs, w.shared) {
			if blobThing(repo, desc.Digest) == thing {
				said = w.u.lookBlob(ctx, w.r, repo, desc.Digest)
			}
		}
		for _, a := range w.manifests {
			if manifestThing(repo, a.Descriptor.Digest) == thing {
				said = w.u.lookManifest(ctx, w.r, repo, a.Descriptor.Digest)
			}
		}
		for _, tag := range w.tags {
			if tagThing(repo, tag) == thing {
				said = w.u.lookTag(ctx, w.r, repo, tag)
			}
		}
	}
	if said == "absent" {
		return ""
	}
	return said
}

func (w *worker) pushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor) error {
	_, err := w.r.PushBlob(ctx, repo, desc, bytes.NewReader(w.u.blobs[desc.Digest]))
	return w.answered(ctx, err, nil, "PushBlob "+blobThing(repo, desc.Digest), step{blobThing(repo, desc.Digest), present})
}

// upload begins an upload.
func (w *worker) upload(ctx context.Context, repo string, desc ociregistry.Descriptor) error {
	bw, err := w.r.PushBlobChunked(ctx, repo, 0)
	if err := w.answered(ctx, err, nil, "PushBlobChunked "+blobThing(repo, desc.Digest)); err != nil || bw == nil {
		return err
	}
	return w.write(ctx, bw, &openUpload{repo: repo, id: bw.ID(), desc: desc})
}

// goOn goes on with an upload that was left open.
func (w *worker) goOn(ctx context.Context) error {
	if len(w.open) == 0 {
		return nil
	}
	up := w.open[0]
	w.open = w.open[1:]
	bw, err := w.r.PushBlobChunkedResume(ctx, up.repo, up.id, -1, 0)
	if err != nil {
		return w.answered(ctx, err, nil, "PushBlobChunkedResume "+up.id)
	}
	return w.write(ctx, bw, up)
}

// write writes a part of an upload, or all of it, and then does with it whatever
// can be done.
func (w *worker) write(ctx context.Context, bw ociregistry.BlobWriter, up *openUpload) error {
	data := w.u.blobs[up.desc.Digest]
	what := fmt.Sprintf("%s of %s", up.id, blobThing(up.repo, up.desc.Digest))
	if bw.Size() > up.sent {
		return fmt.Errorf("upload %s has %d bytes, of %d that were sent", what, bw.Size(), up.sent)
	}
	for parts := w.rnd.IntN(5); bw.Size() < up.desc.Size && parts > 0; parts-- {
		part := data[bw.Size():min(bw.Size()+1+w.rnd.Int64N(12_000), up.desc.Size)]
		if parts == 1 && w.rnd.IntN(2) == 0 {
			part = data[bw.Size():]
		}
		up.sent = max(up.sent, bw.Size()+int64(len(part)))
		if _, err := bw.Write(part); err != nil {
			w.open = append(w.open, up)
			bw.Close()
			return w.answered(ctx, err, nil, "Write "+what)
		}
	}
	switch {
	case bw.Size() == up.desc.Size && w.rnd.IntN(3) > 0:
		return w.finish(ctx, bw, up)
	case w.rnd.IntN(6) == 0:
		return w.answered(ctx, bw.Cancel(), nil, "Cancel "+what)
	}
	w.open = append(w.open, up)
	return w.answered(ctx, bw.Close(), nil, "Close "+what)
}

// finish writes the rest of an upload and commits it. Then the blob must be right.
func (w *worker) finish(ctx context.Context, bw ociregistry.BlobWriter, up *openUpload) error {
	thing := blobThing(up.repo, up.desc.Digest)
	if rest := w.u.blobs[up.desc.Digest][bw.Size():]; len(rest) > 0 {
		if _, err := bw.Write(rest); err != nil {
			bw.Close()
			return w.answered(ctx, err, nil, "Write "+thing)
		}
	}
	_, err := bw.Commit(up.desc.Digest)
	err2 := w.answered(ctx, err, nil, "Commit "+thing, step{thing, present})
	if err != nil || err2 != nil {
		return err2
	}
	if got := w.ask(ctx, thing); got != present && !w.off() && !w.flaky {
		return fmt.Errorf("%s, just committed, is %q", thing, got)
	}
	return nil
}

func (w *worker) mount(ctx context.Context, repo string, desc ociregistry.Descriptor) error {
	from := pick(w.rnd, w.u.repos)
	if w.state[blobThing(from, desc.Digest)] == "" {
		return nil
	}
	if w.rnd.IntN(3) == 0 {
		from = ""
	}
	_, err := w.r.MountBlob(ctx, from, repo, desc.Digest)
	if from == "" && w.cutShort && w.state[blobThing(repo, desc.Digest)] == "" && errors.Is(err, ociregistry.ErrBlobUnknown) {
		return nil // what is not in the pool is not found without a repository
	}
	return w.answered(ctx, err, nil, fmt.Sprintf("MountBlob from %q to %s", from, blobThing(repo, desc.Digest)),
		step{blobThing(repo, desc.Digest), present})
}

// pushImage pushes a manifest, and before it what it names, if that is not
// there.
func (w *worker) pushImage(ctx context.Context, repo string, a *ocitest.Artifact) error {
	for _, b := range a.Blobs {
		if w.state[blobThing(repo, b.Descriptor.Digest)] == "" {
			if err := w.pushBlob(ctx, repo, b.Descriptor); err != nil {
				return err
			}
		}
	}
	for _, child := range a.Children {
		if w.state[manifestThing(repo, child.Descriptor.Digest)] == "" {
			if err := w.pushImage(ctx, repo, child); err != nil {
				return err
			}
		}
	}
	var want error
	if !w.complete(repo, a) {
		want = ociregistry.ErrManifestBlobUnknown // a push of that failed
	}
	thing := manifestThing(repo, a.Descriptor.Digest)
	steps := []step{{thing, present}}
	var tags []string
	for _, tag := range w.tags {
		if w.rnd.IntN(3) == 0 {
			tags = append(tags, tag)
			steps = append(steps, step{tagThing(repo, tag), string(a.Descriptor.Digest)})
		}
	}
	_, err := w.r.PushManifest(ctx, repo, "", a.Manifest, a.Descriptor.MediaType, tags...)
	return w.answered(ctx, err, want, fmt.Sprintf("PushManifest %s %q", thing, tags), steps...)
}

// complete reports whether all that a manifest names is in a repository.
func (w *worker) complete(repo string, a *ocitest.Artifact) bool {
	return !slices.ContainsFunc(a.Blobs, func(b ocitest.Blob) bool {
		return w.state[blobThing(repo, b.Descriptor.Digest)] == ""
	}) && !slices.ContainsFunc(a.Children, func(child *ocitest.Artifact) bool {
		return w.state[manifestThing(repo, child.Descriptor.Digest)] == ""
	})
}

func (w *worker) deleteTag(ctx context.Context, repo, tag string) error {
	thing := tagThing(repo, tag)
	if w.state[thing] == "" {
		return nil // whether the repository is known is up to the other workers
	}
	return w.answered(ctx, w.r.DeleteTag(ctx, repo, tag), nil, "DeleteTag "+thing, step{thing, ""})
}

func (w *worker) deleteManifest(ctx context.Context, repo string, a *ocitest.Artifact) error {
	thing := manifestThing(repo, a.Descriptor.Digest)
	if w.state[thing] == "" {
		return nil
	}
	steps := []step{{thing, ""}}
	for _, tag := range w.tags {
		if w.state[tagThing(repo, tag)] == string(a.Descriptor.Digest) {
			steps = append(steps, step{tagThing(repo, tag), ""})
		}
	}
	var want error
	for _, parent := range w.manifests {
		if slices.Contains(parent.Children, a) && w.state[manifestThing(repo, parent.Descriptor.Digest)] != "" {
			want = ociregistry.ErrInUse
		}
	}
	return w.answered(ctx, w.r.DeleteManifest(ctx, repo, a.Descriptor.Digest), want, "DeleteManifest "+thing, steps...)
}

func (w *worker) deleteBlob(ctx context.Context, repo string, desc ociregistry.Descriptor) error {
	thing := blobThing(repo, desc.Digest)
	if w.state[thing] == "" {
		return nil
	}
	var want error
	for _, a := range w.manifests {
		if w.state[manifestThing(repo, a.Descriptor.Digest)] != "" && slices.ContainsFunc(a.Blobs, func(b ocitest.Blob) bool {
			return b.Descriptor.Digest == desc.Digest
		}) {
			want = ociregistry.ErrInUse
		}
	}
	return w.answered(ctx, w.r.DeleteBlob(ctx, repo, desc.Digest), want, "DeleteBlob "+thing, step{thing, ""})
}

// look looks at a blob, a manifest and a tag.
func (w *worker) look(ctx context.Context, repo string, desc ociregistry.Descriptor, a *ocitest.Artifact) error {
	for _, thing := range []string{
		blobThing(repo, desc.Digest), manifestThing(repo, a.Descriptor.Digest), tagThing(repo, pick(w.rnd, w.tags)),
	} {
		if got := w.ask(ctx, thing); got != w.state[thing] && !w.off() && !w.flaky && !w.damaged {
			return fmt.Errorf("%s is %q, not %q", thing, got, w.state[thing])
		}
	}
	return nil
}

// collect collects garbage. What a tag reaches stays, and the rest may go.
func (w *worker) collect(ctx context.Context) error {
	var garbage []string
	for _, repo := range w.u.repos {
		live := w.reachable(repo)
		for thing, value := range w.state {
			in, _, _ := strings.Cut(thing, " ")
			isTag := strings.HasPrefix(thing, repo+":") && !live[manifestThing(repo, ociregistry.Digest(value))]
			if value != "" && (in == repo && !live[thing] || isTag) {
				garbage = append(garbage, thing)
			}
		}
	}
	report, err := w.r.(*Registry).GC(ctx, &ocigc.Options{Delay: -1, Untagged: true, Dangling: true})
	if err == nil {
		for _, p := range report.Problems {
			err = errors.Join(err, p)
		}
	}
	w.say("GC: %v", err)
	for _, thing := range garbage {
		w.maybe[thing] = append(w.maybe[thing], w.state[thing], "")
	}
	w.open = nil // their sessions have ended, too
	switch {
	case w.off() || w.damaged:
		return nil
	case err != nil && !(w.flaky && errors.Is(err, syscall.EIO)):
		return err
	}
	for _, thing := range garbage {
		got := w.ask(ctx, thing)
		if w.off() {
			return nil
		}
		w.state[thing] = got
	}
	return nil
}

// reachable returns the things in a repository that tags keep.
func (w *worker) reachable(repo string) map[string]bool {
	live := make(map[string]bool)
	there := func(a *ocitest.Artifact) bool { return w.state[manifestThing(repo, a.Descriptor.Digest)] != "" }
	var mark func(a *ocitest.Artifact)
	mark = func(a *ocitest.Artifact) {
		thing := manifestThing(repo, a.Descriptor.Digest)
		if live[thing] || !there(a) {
			return
		}
		live[thing] = true
		for _, b := range a.Blobs {
			live[blobThing(repo, b.Descriptor.Digest)] = true
		}
		for _, child := range a.Children {
			mark(child)
		}
		if a == w.manifests[0] {
			mark(w.manifests[3]) // its referrer
		}
	}
	for _, a := range w.manifests[:3] {
		for _, tag := range w.tags {
			if w.state[tagThing(repo, tag)] == string(a.Descriptor.Digest) {
				mark(a)
			}
		}
	}
	return live
}
