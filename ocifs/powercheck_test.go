//go:build unix

package ocifs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ocifs/internal/blobs"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// check checks what the registry shows after a cut.
func (c *cutTest) check(ctx context.Context) error {
	lines := c.u.look(ctx, c.r)
	if c.off() {
		return nil
	}
	there, err := parseLook(lines)
	switch {
	case c.opts.NoSync && c.cuts > 0:
		// Blobs and manifests may be missing, and blobs may be damaged, until they are
		// pushed again: see end.
		for _, line := range lines {
			if strings.Contains(line, " manifest ") && strings.Contains(line, " has wrong ") {
				return errors.New(line)
			}
		}
	case err != nil:
		return err
	default:
		if err := c.checkThings(there); err != nil {
			return err
		}
		if err := c.checkWhole(there); err != nil {
			return err
		}
		if err := c.checkRefs(there); err != nil {
			return err
		}
	}
	for _, w := range c.workers {
		w.r, w.cutShort = c.r, c.ends > 0
		w.damaged = c.opts.NoSync && c.cuts > 0
		w.observe(there, c.killed)
	}
	return c.checkUploads(ctx)
}

// observe records what is there. After a cut, the same is there after the next one.
// But what a killed process showed, or what it was doing, may be gone after the next
// cut, unless it was acknowledged.
func (w *worker) observe(there map[string]string, killed bool) {
	before, maybe := w.state, w.maybe
	w.state, w.maybe, w.flight = make(map[string]string), make(map[string][]string), nil
	for thing, value := range there {
		if w.owns(thing) {
			w.state[thing] = value
		}
	}
	if !killed {
		return
	}
	for thing, values := range maybe {
		w.maybe[thing] = append(values, before[thing])
	}
	for _, desc := range w.shared {
		for _, repo := range w.u.repos {
			if thing := blobThing(repo, desc.Digest); before[thing] == "" {
				w.maybe[thing] = append(w.maybe[thing], "")
			}
		}
	}
}

// checkIndexes checks, before a registry has done anything about it, that what
// index.json names is there: other programs may read it.
func (c *cutTest) checkIndexes() error {
	if c.opts.NoSync && c.cuts > 0 {
		return nil
	}
	for _, repo := range c.u.repos {
		text, err := readText(c.disk, root, repo, "index.json")
		if err != nil {
			continue
		}
		var index ocispec.Index
		if err := json.Unmarshal([]byte(text), &index); err != nil {
			return fmt.Errorf("index.json of %s: %w", repo, err)
		}
		for _, desc := range index.Manifests {
			text, err := readText(c.disk, blobs.Path(filepath.Join(root, repo), desc.Digest))
			if err != nil || desc.Digest.Algorithm().FromString(text) != desc.Digest {
				return fmt.Errorf("index.json of %s has %s, whose file has not: %v", repo, desc.Digest, err)
			}
		}
	}
	return nil
}

// parseLook returns the things that are there. A line that reports a problem is an
// error.
func parseLook(lines []string) (map[string]string, error) {
	there := make(map[string]string)
	var wrong []error
	for _, line := range lines {
		thing, digest, isTag := strings.Cut(line, " is sha256:")
		switch {
		case isListed(line):
			there[line] = present
		case isTag:
			there[thing] = "sha256:" + digest
		case strings.HasSuffix(line, " present"):
			there[strings.TrimSuffix(line, " present")] = present
		default:
			wrong = append(wrong, errors.New(line))
		}
	}
	return there, errors.Join(wrong...)
}

// owns reports whether w keeps track of a thing.
func (w *worker) owns(thing string) bool {
	repo, rest, _ := strings.Cut(thing, " ")
	if rest == "" {
		return strings.Contains(repo, ":"+w.name+"-")
	}
	return slices.ContainsFunc(slices.Concat(w.blobs, w.shared), func(desc ociregistry.Descriptor) bool {
		return thing == blobThing(repo, desc.Digest)
	}) || slices.ContainsFunc(w.manifests, func(a *ocitest.Artifact) bool { return thing == manifestThing(repo, a.Descriptor.Digest) })
}

// checkThings checks that everything is as it was when it was acknowledged, or as a
// call that was not acknowledged made it.
func (c *cutTest) checkThings(there map[string]string) error {
	shared := make(map[string]bool)
	for _, repo := range c.u.repos {
		for _, desc := range c.shared {
			shared[blobThing(repo, desc.Digest)] = true
		}
	}
	for _, w := range c.workers {
		things := make(map[string]bool)
		for _, m := range []map[string]string{w.state, there} {
			for thing := range m {
				things[thing] = true
			}
		}
		for thing := range things {
			got, want := there[thing], w.state[thing]
			if !w.owns(thing) || got == want || slices.Contains(w.maybe[thing], got) || shared[thing] && want == "" {
				continue
			}
			return fmt.Errorf("%s is %q, not %q, perhaps %q", thing, got, want, w.maybe[thing])
		}
		done, undone := true, true
		for _, s := range w.flight {
			got := there[s.thing]
			done = done && got == s.to
			undone = undone && (got == w.state[s.thing] || got != s.to || len(w.maybe[s.thing]) > 1)
		}
		if !done && !undone {
			return fmt.Errorf("the last call of %s is half done: %v", w.name, w.flight)
		}
	}
	for thing := range there {
		owned := slices.ContainsFunc(c.workers, func(w *worker) bool { return w.owns(thing) })
		if !owned && !isListed(thing) {
			return fmt.Errorf("%s is there, which nobody has made", thing)
		}
	}
	return nil
}

// checkWhole checks that manifests have all that they name.
func (c *cutTest) checkWhole(there map[string]string) error {
	for _, repo := range c.u.repos {
		for digest, a := range c.u.manifests {
			if there[manifestThing(repo, digest)] == "" {
				continue
			}
			for _, b := range a.Blobs {
				if there[blobThing(repo, b.Descriptor.Digest)] == "" {
					return fmt.Errorf("in %s there is manifest %s, but not its blob %s", repo, digest, b.Descriptor.Digest)
				}
			}
			for _, child := range a.Children {
				if there[manifestThing(repo, child.Descriptor.Digest)] == "" {
					return fmt.Errorf("in %s there is index %s, but not its child %s", repo, digest, child.Descriptor.Digest)
				}
			}
		}
	}
	return nil
}

// checkRefs checks that tags point at manifests, and that the lists of
// repositories and referrers are right.
func (c *cutTest) checkRefs(there map[string]string) error {
	want := make(map[string]bool)
	for thing, value := range there {
		switch repo, tag, isTag := strings.Cut(thing, ":"); {
		case isListed(thing):
		case strings.Contains(repo, " "): // of a blob or a manifest, by digest
			repo, _, _ = strings.Cut(repo, " ")
			want["repository "+repo] = true
		case isTag && there[manifestThing(repo, ociregistry.Digest(value))] == "":
			return fmt.Errorf("%s:%s points at %s, which is not there", repo, tag, value)
		default:
			want["repository "+repo] = true
		}
	}
	for _, w := range c.workers {
		artifact, subject := w.manifests[3].Descriptor.Digest, w.manifests[0].Descriptor.Digest
		for _, repo := range c.u.repos {
			if thing := manifestThing(repo, artifact); there[thing] != "" {
				want[fmt.Sprintf("%s is a referrer of %s", thing, subject)] = true
			}
		}
	}
	for thing := range there {
		if isListed(thing) {
			if !want[thing] {
				return fmt.Errorf("listed: %s", thing)
			}
			delete(want, thing)
		}
	}
	for line := range want {
		return fmt.Errorf("not listed: %s", line)
	}
	return nil
}

// checkUploads goes on with the uploads that were open. They may be gone, but not
// be wrong.
func (c *cutTest) checkUploads(ctx context.Context) error {
	for _, w := range c.workers {
		open := w.open
		w.open = nil
		for _, up := range open {
			bw, err := w.r.PushBlobChunkedResume(ctx, up.repo, up.id, -1, 0)
			if c.off() {
				return nil
			}
			if errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
				continue
			}
			if err != nil {
				return err
			}
			w.say("%s of %s has %d bytes of %d", up.id, blobThing(up.repo, up.desc.Digest), bw.Size(), up.sent)
			if w.rnd.IntN(3) > 0 {
				err = w.finish(ctx, bw, up)
			} else {
				err = w.write(ctx, bw, up)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// end checks that the registry works on, and that its directory is in order when
// it is closed.
func (c *cutTest) end(ctx context.Context) error {
	defer c.r.Close()
	c.disk.BadSyncs = 0
	for _, w := range c.workers {
		w.flaky, w.damaged = false, false
		for _, repo := range c.u.repos {
			for _, a := range w.manifests {
				if err := a.Push(ctx, c.r, repo, w.tags[0]); err != nil {
					return fmt.Errorf("pushing everything again: %w", err)
				}
			}
			for _, desc := range slices.Concat(w.blobs, w.shared) {
				if err := w.pushBlob(ctx, repo, desc); err != nil {
					return fmt.Errorf("pushing everything again: %w", err)
				}
			}
		}
	}
	time.Sleep(2 * DefaultUploadExpiry)
	lines := c.u.look(ctx, c.r)
	there, err := parseLook(lines)
	if err != nil {
		return err
	}
	if err := c.checkWhole(there); err != nil {
		return err
	}
	if err := c.checkRefs(there); err != nil {
		return err
	}
	for _, w := range c.workers {
		for _, repo := range c.u.repos {
			for _, desc := range w.blobs {
				if there[blobThing(repo, desc.Digest)] == "" {
					return fmt.Errorf("%s was pushed again and is not there", blobThing(repo, desc.Digest))
				}
			}
			for _, a := range w.manifests {
				if there[manifestThing(repo, a.Descriptor.Digest)] == "" {
					return fmt.Errorf("%s was pushed again and is not there", manifestThing(repo, a.Descriptor.Digest))
				}
			}
		}
	}
	if err := c.r.Close(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	for _, dir := range []string{"uploads", "staging"} {
		if left := listFiles(c.disk, filepath.Join(root, layout.PrivateDir, dir)); len(left) > 0 {
			return fmt.Errorf("in %s there are %q", dir, left)
		}
	}
	return checkLayouts(c.disk, root, lines)
}
