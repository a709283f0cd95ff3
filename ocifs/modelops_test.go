package ocifs_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// modelOp is one operation of a program: how it is written, and what it does. It
// depends on nothing but the driver, so any of a program's operations can be left
// out.
type modelOp struct {
	text string
	run  func(d *modelDriver) modelResult
}

// modelResult is what an operation returned, as text.
type modelResult struct {
	value string
	err   error
}

// modelDriver runs operations on a registry, or on several that have the same
// content.
type modelDriver struct {
	regs   []ociregistry.Interface
	reopen func(i int, closes bool) error // if it can be: opens regs[i] again, having closed it or not
	close  func() error                   // closes all that were opened
	slots  [3]modelSlot
	data   map[string][]byte    // what each upload session has, by id
	extra  []ociregistry.Digest // of blobs that were uploaded
}

// modelSlot is a variable of a program that holds a BlobWriter.
type modelSlot struct {
	w        ociregistry.BlobWriter // nil when it was lost
	repo, id string
	size     int64
}

func (d *modelDriver) reg(i int) ociregistry.Interface { return d.regs[i%len(d.regs)] }

// set puts a writer into a slot.
func (d *modelDriver) set(slot int, repo string, w ociregistry.BlobWriter, err error) modelResult {
	if err != nil {
		return modelResult{err: err}
	}
	if old := d.slots[slot].w; old != nil {
		old.Close()
	}
	d.slots[slot] = modelSlot{w: w, repo: repo, id: w.ID(), size: w.Size()}
	return modelResult{value: fmt.Sprint("size ", w.Size())}
}

// dropWriters closes all writers, and leaves what is needed to resume.
func (d *modelDriver) dropWriters() (err error) {
	for i := range d.slots {
		if w := d.slots[i].w; w != nil {
			err = cmp.Or(err, w.Close())
		}
		d.slots[i].w = nil
	}
	return err
}

func (d *modelDriver) reopenRegistry(i int, closes bool) modelResult {
	err := d.dropWriters()
	if err == nil && d.reopen != nil {
		err = d.reopen(i%len(d.regs), closes)
	}
	return modelResult{err: err}
}

// check reads everything there is, and everything that should not be there.
func (d *modelDriver) check(r ociregistry.Interface, u *modelUniverse) modelResult {
	var b strings.Builder
	add := func(what string, res modelResult) {
		fmt.Fprintf(&b, "%s: %s", what, res.value)
		if res.err != nil {
			fmt.Fprintf(&b, " (%s)", strings.Join(errorNames(res.err), " or "))
		}
		b.WriteByte('\n')
	}
	add("Repositories", listResult(r.Repositories(modelCtx, ""), -1, strings.Clone))
	for _, repo := range modelRepos {
		add("Tags "+repo, listResult(r.Tags(modelCtx, repo, ""), -1, strings.Clone))
		for _, tag := range modelTags {
			add("GetTag "+repo+":"+tag, readResult(r.GetTag(modelCtx, repo, tag)))
		}
		for _, m := range u.manifests {
			add("GetManifest "+repo+"@"+m.name, readResult(r.GetManifest(modelCtx, repo, m.digest)))
			add("Referrers "+repo+"@"+m.name, listResult(r.Referrers(modelCtx, repo, m.digest, ""), -1, showDesc))
		}
		for _, c := range u.blobs {
			add("GetBlob "+repo+"@"+c.name, readResult(r.GetBlob(modelCtx, repo, c.digest)))
		}
		for _, dgst := range d.extra {
			add("GetBlob "+repo+"@"+string(dgst), readResult(r.GetBlob(modelCtx, repo, dgst)))
		}
	}
	return modelResult{value: b.String()}
}

var modelCtx = context.Background()

func showDesc(desc ociregistry.Descriptor) string {
	return fmt.Sprintf("{%s %s %d %q %q}", desc.MediaType, desc.Digest, desc.Size, desc.ArtifactType, desc.Annotations)
}

func descResult(desc ociregistry.Descriptor, err error) modelResult {
	if err != nil {
		return modelResult{err: err}
	}
	return modelResult{value: showDesc(desc)}
}

func readResult(r ociregistry.BlobReader, err error) modelResult {
	if err != nil {
		return modelResult{err: err}
	}
	data, err := io.ReadAll(r)
	err = cmp.Or(err, r.Close())
	return modelResult{fmt.Sprintf("%s %d bytes %.4x", showDesc(r.Descriptor()), len(data), sha256.Sum256(data)), err}
}

// listResult ranges over at most limit elements, or all if that is negative.
func listResult[T any](seq iter.Seq2[T, error], limit int, show func(T) string) modelResult {
	var list []string
	if limit == 0 {
		return modelResult{}
	}
	for x, err := range seq {
		if err != nil {
			return modelResult{strings.Join(list, " "), err}
		}
		if list = append(list, show(x)); len(list) == limit {
			break
		}
	}
	return modelResult{value: strings.Join(list, " ")}
}

// writerResult is the result of an operation on a writer.
func (d *modelDriver) writerResult(slot int, err error) modelResult {
	s := &d.slots[slot]
	s.size = s.w.Size()
	return modelResult{fmt.Sprint("size ", s.size), err}
}

// The operations on writers do nothing when the slot has none.

func (d *modelDriver) write(slot int, p []byte) modelResult {
	s := &d.slots[slot]
	if s.w == nil {
		return modelResult{}
	}
	n, err := s.w.Write(p)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	if err == nil {
		d.data[s.id] = append(d.data[s.id], p...)
	}
	return d.writerResult(slot, err)
}

func (d *modelDriver) commit(slot int, alg digest.Algorithm) modelResult {
	s := &d.slots[slot]
	if s.w == nil {
		return modelResult{}
	}
	dgst := alg.FromBytes(d.data[s.id])
	desc, err := s.w.Commit(dgst)
	res := d.writerResult(slot, err)
	if err == nil {
		res.value = fmt.Sprintf("%s %d", desc.Digest, desc.Size)
		d.extra = append(d.extra, dgst)
	}
	return res
}

func (d *modelDriver) commitAs(slot int, dgst ociregistry.Digest) modelResult {
	s := &d.slots[slot]
	if s.w == nil {
		return modelResult{}
	}
	_, err := s.w.Commit(dgst)
	return d.writerResult(slot, err)
}

func (d *modelDriver) cancel(slot int) modelResult {
	if d.slots[slot].w == nil {
		return modelResult{}
	}
	return d.writerResult(slot, d.slots[slot].w.Cancel())
}

func (d *modelDriver) closeWriter(slot int) modelResult {
	if d.slots[slot].w == nil {
		return modelResult{}
	}
	return d.writerResult(slot, d.slots[slot].w.Close())
}

func (d *modelDriver) resume(reg, slot, from int, repo string, offset func(size int64) int64) modelResult {
	s := d.slots[from]
	repo = cmp.Or(repo, s.repo, "a")
	w, err := d.reg(reg).PushBlobChunkedResume(modelCtx, repo, s.id, offset(s.size), 0)
	return d.set(slot, repo, w, err)
}

// errFromReader is what the readers fail with that fail.
var errFromReader = errors.New("the reader failed")

// modelErrors are the errors that results are compared by, the more specific
// first.
var modelErrors = []struct {
	name string
	err  error
}{
	{"ErrInUse", ociregistry.ErrInUse},
	{"ErrDenied", ociregistry.ErrDenied},
	{"ErrBlobUnknown", ociregistry.ErrBlobUnknown},
	{"ErrBlobUploadUnknown", ociregistry.ErrBlobUploadUnknown},
	{"ErrBlobUploadInvalid", ociregistry.ErrBlobUploadInvalid},
	{"ErrDigestInvalid", ociregistry.ErrDigestInvalid},
	{"ErrManifestBlobUnknown", ociregistry.ErrManifestBlobUnknown},
	{"ErrManifestInvalid", ociregistry.ErrManifestInvalid},
	{"ErrManifestUnknown", ociregistry.ErrManifestUnknown},
	{"ErrNameInvalid", ociregistry.ErrNameInvalid},
	{"ErrNameUnknown", ociregistry.ErrNameUnknown},
	{"ErrSizeInvalid", ociregistry.ErrSizeInvalid},
	{"ErrRangeInvalid", ociregistry.ErrRangeInvalid},
	{"ErrPreconditionFailed", ociregistry.ErrPreconditionFailed},
	{"ErrUnsupported", ociregistry.ErrUnsupported},
	{"errFromReader", errFromReader},
	{"unspecified", errUnspecified},
	{"any error", errAny},
}

// errorNames returns what err may be called.
func errorNames(err error) []string {
	var names []string
	if c, ok := err.(choice); ok {
		for _, err := range c {
			names = append(names, errorNames(err)...)
		}
		return names
	}
	for _, e := range modelErrors {
		if errors.Is(err, e.err) {
			return []string{e.name}
		}
	}
	return []string{fmt.Sprintf("error %q", err)}
}

// allows reports whether got is a result that want, the model's, leaves room for.
func (want modelResult) allows(got modelResult) bool {
	switch {
	case want.err == nil || got.err == nil:
		return want.err == nil && got.err == nil && sameLines(want.value, got.value)
	case want.value != got.value:
		return false
	}
	names := errorNames(want.err)
	return slices.Contains(names, "any error") || slices.Contains(names, errorNames(got.err)[0])
}

// sameLines compares the lines of two values, but for those that the model has no
// opinion about.
func sameLines(want, got string) bool {
	if want == got {
		return true
	}
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	return len(wants) == len(gots) && !slices.ContainsFunc(differences(wants, gots), func(s string) bool { return s != "" })
}

// differences returns the lines of got that are not like those of want.
func differences(wants, gots []string) []string {
	var diffs []string
	for i, want := range wants {
		if i < len(gots) && want != gots[i] && !strings.HasSuffix(want, "(unspecified)") {
			diffs = append(diffs, fmt.Sprintf("want %s\n\t     got  %s", want, gots[i]))
		}
	}
	return diffs
}

// String shows a result in a program.
func (res modelResult) String() string {
	s := res.value
	if res.err != nil {
		s = strings.TrimSpace(s + " " + strings.Join(errorNames(res.err), " or "))
	}
	return cmp.Or(s, "ok")
}
