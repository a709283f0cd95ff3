package ocifs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// modelGen makes random programs.
type modelGen struct {
	*rand.Rand
	u      *modelUniverse
	ops    []modelOp
	recent []modelContent // manifests that were pushed, or would have been
}

// modelProgram returns a program of about n operations. The last of them check
// everything.
func modelProgram(seed uint64, n int) []modelOp {
	g := &modelGen{Rand: rand.New(rand.NewPCG(seed, 0)), u: theModelUniverse()}
	kinds := []struct {
		weight int
		add    func()
	}{
		{16, g.pushBlob}, {8, g.pushWhole}, {14, g.pushManifest}, {6, g.mount},
		{8, g.deleteBlob}, {7, g.deleteManifest}, {7, g.deleteTag},
		{5, g.readBlob}, {5, g.readManifest}, {6, g.list},
		{4, g.upload}, {2, g.startUpload}, {6, g.writeUpload}, {3, g.resumeUpload}, {4, g.endUpload},
		{3, g.invalid}, {4, g.check}, {5, g.reopen},
	}
	sum := 0
	for _, kind := range kinds {
		sum += kind.weight
	}
	for len(g.ops) < n {
		k := g.IntN(sum)
		i := 0
		for ; k >= kinds[i].weight; i++ {
			k -= kinds[i].weight
		}
		kinds[i].add()
	}
	g.check()
	g.check()
	return g.ops
}

func pick[T any](g *modelGen, xs ...T) T { return xs[g.IntN(len(xs))] }

func (g *modelGen) oneIn(n int) bool { return g.IntN(n) == 0 }

func (g *modelGen) op(run func(d *modelDriver) modelResult, format string, args ...any) {
	g.ops = append(g.ops, modelOp{fmt.Sprintf(format, args...), run})
}

// call adds a call of one of the two registries.
func (g *modelGen) call(run func(r ociregistry.Interface) modelResult, format string, args ...any) {
	i := g.IntN(2)
	g.op(func(d *modelDriver) modelResult { return run(d.reg(i)) }, fmt.Sprintf("r%d.", i)+format, args...)
}

func (g *modelGen) repo() string {
	if g.oneIn(2) {
		return modelRepos[0]
	}
	return pick(g, modelRepos...)
}

func (g *modelGen) tag() string { return pick(g, modelTags...) }

// manifest returns a manifest that may well be there.
func (g *modelGen) manifest() modelContent {
	if n := len(g.recent); n > 0 && !g.oneIn(4) {
		return pick(g, g.recent[max(0, n-6):]...)
	}
	return pick(g, g.u.manifests...)
}

func (g *modelGen) tags() []string {
	var tags []string
	for _, tag := range modelTags {
		if g.oneIn(4) {
			tags = append(tags, tag)
		}
	}
	return tags
}

func (g *modelGen) pushBlob() {
	repo, blob := g.repo(), pick(g, g.u.blobs...)
	if g.oneIn(6) {
		g.pushWrongBlob(repo, blob)
		return
	}
	g.pushThisBlob(repo, blob)
}

func (g *modelGen) pushThisBlob(repo string, blob modelContent) {
	g.call(func(r ociregistry.Interface) modelResult {
		return descResult(r.PushBlob(modelCtx, repo, blob.desc(), bytes.NewReader(blob.data)))
	}, "PushBlob(%q, %q)", repo, blob.name)
}

func (g *modelGen) pushWrongBlob(repo string, blob modelContent) {
	desc, data, what := blob.desc(), slices.Clone(blob.data), ""
	failing := false
	switch g.IntN(6) {
	case 0:
		what = "a byte more than announced"
		data = append(data, 'x')
	case 1:
		what = "size announced too large"
		desc.Size++
	case 2:
		what = "negative size"
		desc.Size = -1
	case 3:
		what = "reader fails"
		failing = true
	default:
		what = "other bytes"
		if len(data) > 0 {
			data[g.IntN(len(data))] ^= 1
		}
	}
	g.call(func(r ociregistry.Interface) modelResult {
		content := io.Reader(bytes.NewReader(data))
		if failing {
			content = io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(errFromReader))
		}
		return descResult(r.PushBlob(modelCtx, repo, desc, content))
	}, "PushBlob(%q, %q) // %s", repo, blob.name, what)
}

// pushWhole pushes a manifest after all that it needs.
func (g *modelGen) pushWhole() {
	repo := g.repo()
	var push func(name string, tags []string)
	push = func(name string, tags []string) {
		c := g.u.content(name)
		for _, need := range c.needs {
			push(need, nil)
		}
		if slices.ContainsFunc(g.u.manifests, func(m modelContent) bool { return m.name == name }) {
			g.pushThisManifest(repo, string(c.digest), c, tags)
		} else {
			g.pushThisBlob(repo, c)
		}
	}
	push(pick(g, g.u.manifests...).name, g.tags())
}

func (g *modelGen) pushManifest() {
	repo, m := g.repo(), pick(g, g.u.manifests...)
	ref := pick(g, "", g.tag(), g.tag(), string(m.digest))
	switch {
	case g.oneIn(10):
		m = pick(g, g.u.invalid...)
	case g.oneIn(10):
		ref = string(pick(g, g.u.manifests...).digest)
	}
	if g.oneIn(3) {
		g.pushIf(repo, ref, m, g.tags())
		return
	}
	g.pushThisManifest(repo, ref, m, g.tags())
}

func (g *modelGen) pushThisManifest(repo, ref string, m modelContent, tags []string) {
	g.recent = append(g.recent, m)
	ctx, what := g.allow(ociregistry.AllowMissing)
	g.call(func(r ociregistry.Interface) modelResult {
		contents := slices.Clone(m.data)
		defer clear(contents) // it is the caller's
		return descResult(r.PushManifest(ctx, repo, ref, contents, m.mediaType, tags...))
	}, "PushManifest(%q, %q, %q, %q...)%s", repo, g.show(ref), m.name, tags, what)
}

// allow returns a context for a call that may have an allowance, and what is said
// of it then.
func (g *modelGen) allow(with func(context.Context) context.Context) (ctx context.Context, what string) {
	if g.oneIn(4) {
		return with(modelCtx), " // with its allowance"
	}
	return modelCtx, ""
}

// pushIf pushes a manifest under a condition.
func (g *modelGen) pushIf(repo, ref string, m modelContent, tags []string) {
	what := pick(g, ociregistry.AnyManifest, pick(g, g.u.manifests...).digest)
	c := ociregistry.PushCondition{IfMatch: []ociregistry.Digest{what}}
	name := "IfMatch"
	if g.oneIn(2) {
		c = ociregistry.PushCondition{IfNoneMatch: c.IfMatch}
		name = "IfNoneMatch"
	}
	g.call(func(r ociregistry.Interface) modelResult {
		ctx := ociregistry.WithPushCondition(modelCtx, c)
		return descResult(r.PushManifest(ctx, repo, ref, m.data, m.mediaType, tags...))
	}, "PushManifest(%q, %q, %q, %q...) // %s %s", repo, g.show(ref), m.name, tags, name, g.show(string(what)))
}

// show returns the name of what a digest stands for, or else ref.
func (g *modelGen) show(ref string) string {
	for _, c := range slices.Concat(g.u.blobs, g.u.manifests, g.u.invalid) {
		if string(c.digest) == ref {
			return "@" + c.name
		}
	}
	return ref
}

func (g *modelGen) mount() {
	from, to, blob := g.repo(), g.repo(), pick(g, g.u.blobs...)
	if g.oneIn(3) {
		from = ""
	}
	g.call(func(r ociregistry.Interface) modelResult {
		desc, err := r.MountBlob(modelCtx, from, to, blob.digest)
		desc.MediaType = "" // unspecified
		return descResult(desc, err)
	}, "MountBlob(%q, %q, %q)", from, to, blob.name)
}

func (g *modelGen) deleteBlob() {
	repo, blob := g.repo(), pick(g, g.u.blobs...)
	if g.oneIn(8) {
		blob = pick(g, g.u.manifests...)
	}
	ctx, what := g.allow(ociregistry.AllowInUse)
	g.call(func(r ociregistry.Interface) modelResult {
		return modelResult{err: r.DeleteBlob(ctx, repo, blob.digest)}
	}, "DeleteBlob(%q, %q)%s", repo, blob.name, what)
}

func (g *modelGen) deleteManifest() {
	repo, m := g.repo(), g.manifest()
	ctx, what := g.allow(ociregistry.AllowInUse)
	g.call(func(r ociregistry.Interface) modelResult {
		return modelResult{err: r.DeleteManifest(ctx, repo, m.digest)}
	}, "DeleteManifest(%q, %q)%s", repo, m.name, what)
}

func (g *modelGen) deleteTag() {
	repo, tag := g.repo(), g.tag()
	g.call(func(r ociregistry.Interface) modelResult {
		return modelResult{err: r.DeleteTag(modelCtx, repo, tag)}
	}, "DeleteTag(%q, %q)", repo, tag)
}

func (g *modelGen) readBlob() {
	repo, blob := g.repo(), pick(g, g.u.blobs...)
	if g.oneIn(2) {
		g.call(func(r ociregistry.Interface) modelResult {
			return descResult(r.ResolveBlob(modelCtx, repo, blob.digest))
		}, "ResolveBlob(%q, %q)", repo, blob.name)
		return
	}
	size := int64(len(blob.data))
	start := pick(g, 0, 0, 1, size/2, size, size+1, -1)
	end := pick(g, -1, 0, size/2, size, size+100)
	g.call(func(r ociregistry.Interface) modelResult {
		return readResult(r.GetBlobRange(modelCtx, repo, blob.digest, start, end))
	}, "GetBlobRange(%q, %q, %d, %d)", repo, blob.name, start, end)
}

func (g *modelGen) readManifest() {
	repo, m, tag := g.repo(), g.manifest(), g.tag()
	if g.oneIn(2) {
		g.call(func(r ociregistry.Interface) modelResult {
			return descResult(r.ResolveManifest(modelCtx, repo, m.digest))
		}, "ResolveManifest(%q, %q)", repo, m.name)
		return
	}
	g.call(func(r ociregistry.Interface) modelResult {
		return descResult(r.ResolveTag(modelCtx, repo, tag))
	}, "ResolveTag(%q, %q)", repo, tag)
}

func (g *modelGen) list() {
	repo, m, limit := g.repo(), g.manifest(), pick(g, -1, 1, 2)
	switch g.IntN(3) {
	case 0:
		after := pick(g, "", "a", "a/", "a0", "b", "c")
		g.call(func(r ociregistry.Interface) modelResult {
			return listResult(r.Repositories(modelCtx, after), limit, strings.Clone)
		}, "Repositories(%q) // %d of them", after, limit)
	case 1:
		after := pick(g, "", "V1", "W", "latest", "v1", "w", "not/a/tag")
		g.call(func(r ociregistry.Interface) modelResult {
			return listResult(r.Tags(modelCtx, repo, after), limit, strings.Clone)
		}, "Tags(%q, %q) // %d of them", repo, after, limit)
	default:
		artifactType := pick(g, "", "text/signature", "text/countersignature", "text/plain")
		g.call(func(r ociregistry.Interface) modelResult {
			return listResult(r.Referrers(modelCtx, repo, m.digest, artifactType), limit, showDesc)
		}, "Referrers(%q, %q, %q) // %d of them", repo, m.name, artifactType, limit)
	}
}

func (g *modelGen) check() {
	i := g.IntN(2)
	g.op(func(d *modelDriver) modelResult { return d.check(d.reg(i), g.u) }, "check(r%d)", i)
}

func (g *modelGen) reopen() {
	i, closes := g.IntN(2), g.IntN(3) > 0
	g.op(func(d *modelDriver) modelResult { return d.reopenRegistry(i, closes) }, "r%d = reopen(r%d, closes: %v) // after all writers", i, i, closes)
}

// upload adds an upload whose session may have two writers.
func (g *modelGen) upload() {
	slots := g.Perm(3)
	g.startUploadIn(slots[0])
	g.writeUploadIn(slots[0])
	if g.oneIn(2) {
		g.resumeUploadIn(slots[1], slots[0])
	}
	for range g.IntN(4) {
		g.writeUploadIn(slots[g.IntN(2)])
	}
	if g.oneIn(3) {
		g.reopen()
		g.resumeUploadIn(slots[0], slots[g.IntN(2)])
	}
	if !g.oneIn(3) {
		g.endUploadIn(slots[g.IntN(2)])
	}
}

func (g *modelGen) startUpload()  { g.startUploadIn(g.IntN(3)) }
func (g *modelGen) writeUpload()  { g.writeUploadIn(g.IntN(3)) }
func (g *modelGen) resumeUpload() { g.resumeUploadIn(g.IntN(3), g.IntN(3)) }
func (g *modelGen) endUpload()    { g.endUploadIn(g.IntN(3)) }

func (g *modelGen) startUploadIn(slot int) {
	i, repo := g.IntN(2), g.repo()
	alg := pick(g, digest.SHA256, digest.SHA512)
	g.op(func(d *modelDriver) modelResult {
		ctx := ociregistry.WithDigestAlgorithm(context.Background(), alg)
		w, err := d.reg(i).PushBlobChunked(ctx, repo, 0)
		return d.set(slot, repo, w, err)
	}, "w%d = r%d.PushBlobChunked(%q) // to be named by %s", slot, i, repo, alg)
}

func (g *modelGen) writeUploadIn(slot int) {
	blob := pick(g, g.u.blobs...)
	half := len(blob.data) / 2
	start, end := pick(g, 0, half), pick(g, half, len(blob.data), len(blob.data))
	g.op(func(d *modelDriver) modelResult {
		p := slices.Clone(blob.data[start:end])
		defer clear(p) // it is the caller's
		return d.write(slot, p)
	}, "w%d.Write(%q[%d:%d])", slot, blob.name, start, end)
}

func (g *modelGen) resumeUploadIn(slot, from int) {
	i, repo := g.IntN(2), ""
	if g.oneIn(8) {
		repo = g.repo()
	}
	offset, show := func(int64) int64 { return -1 }, "-1"
	switch g.IntN(6) {
	case 0, 1, 2:
		offset, show = func(size int64) int64 { return size }, fmt.Sprintf("w%d.Size()", from)
	case 3:
		n := pick(g, int64(1), -1, 0, 1<<40)
		offset, show = func(size int64) int64 { return max(size+n, 0) }, fmt.Sprintf("max(w%d.Size()+%d, 0)", from, n)
	}
	g.op(func(d *modelDriver) modelResult { return d.resume(i, slot, from, repo, offset) },
		"w%d = r%d.PushBlobChunkedResume(%q, w%d.ID(), %s)", slot, i, repo, from, show)
}

func (g *modelGen) endUploadIn(slot int) {
	alg := pick(g, digest.SHA256, digest.SHA256, digest.SHA512)
	switch g.IntN(8) {
	case 0, 1, 2, 3:
		g.op(func(d *modelDriver) modelResult { return d.commit(slot, alg) }, "w%d.Commit(its %s)", slot, alg)
	case 4:
		wrong := pick(g, append(badDigests, g.u.blobs[6].digest, digest.SHA512.FromString("wrong"))...)
		g.op(func(d *modelDriver) modelResult { return d.commitAs(slot, wrong) }, "w%d.Commit(%q)", slot, g.show(string(wrong)))
	case 5:
		g.op(func(d *modelDriver) modelResult { return d.cancel(slot) }, "w%d.Cancel()", slot)
	default:
		g.op(func(d *modelDriver) modelResult { return d.closeWriter(slot) }, "w%d.Close()", slot)
	}
}
