package ocicopy

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// The top of the graph names every manifest of a long chain, and is itself a child of a
// referrer. The end of the chain is listed last.
func TestSort_PutsChildrenFirst(t *testing.T) {
	t.Parallel()
	const n = 3000
	c := newCopier(Place{}, Place{}, true, nil)
	for range n + 1 {
		c.nodes = append(c.nodes, new(node))
	}
	c.top = c.nodes[0]
	for i, from := range c.nodes[:n-1] {
		from.children = append(from.children, c.nodes[i+1])
		c.top.children = append(c.top.children, c.nodes[i+1])
	}
	referrer, lone := c.nodes[n], c.nodes[n-1]
	referrer.children = []*node{c.top, c.top}
	gone := &node{gone: true}
	lone.children = []*node{gone}
	c.nodes = append(c.nodes, gone)

	qt.Assert(t, qt.IsNil(c.sort()))
	qt.Check(t, qt.HasLen(c.nodes, n+1))
	qt.Check(t, qt.HasLen(c.levels, n+1))
	at := make(map[*node]int)
	for i, level := range c.levels {
		for _, n := range level {
			at[n] = i
		}
	}
	for _, n := range c.nodes {
		for _, child := range n.children {
			qt.Assert(t, qt.IsTrue(child.gone || at[child] < at[n]))
		}
	}
	qt.Check(t, qt.Equals(at[c.top], n-1))

	// Manifests cannot name each other by digest. If they could, that would be an error,
	// not a loop.
	a, b := new(node), new(node)
	a.children, b.children = []*node{b}, []*node{a}
	c = newCopier(Place{}, Place{}, true, nil)
	c.top, c.nodes = a, []*node{a, b}
	qt.Check(t, qt.ErrorIs(c.sort(), ociregistry.ErrManifestInvalid))
}

// One manifest calls a layer non-distributable, and another one needs it.
func TestCopy_CopiesALayerThatIsForeignInOneImageOnly(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := foreignImage()
		plain := ocitest.NewImage(ocitest.Spec{Seed: 6})
		var m ocispec.Manifest
		qt.Assert(t, qt.IsNil(json.Unmarshal(plain.Manifest, &m)))
		m.Layers = []ociregistry.Descriptor{image.Blobs[1].Descriptor}
		plain.Blobs = append(slices.Clone(plain.Blobs), image.Blobs[1])
		plain.Manifest, _ = json.Marshal(m)
		plain.Descriptor.Digest = digest.FromBytes(plain.Manifest)
		plain.Descriptor.Size = int64(len(plain.Manifest))
		for i, children := range [][]*ocitest.Artifact{{image, plain}, {plain, image}} {
			repo := string(rune('a' + i))
			index := ocitest.NewIndex(ocitest.Spec{}, children...)
			mustPush(t, src, repo, index, "v1")
			result := mustCopy(t, Place{dst, repo, ""}, Place{src, repo, "v1"}, nil)
			n, _ := result.Count(Blob, Skipped)
			qt.Check(t, qt.Equals(n, 0))
			mustHave(t, dst, repo, index)
		}
	})
}

func TestCopy_ChecksTheDestinationFirst(t *testing.T) {
	overEachPair(t, func(t *testing.T, src, dst *spy) {
		image := image(1)
		mustPush(t, src, "a", image, "v1")
		src.take()
		tests := []struct {
			repo, ref string
			want      error
		}{
			{"b", ".x", ociregistry.ErrManifestInvalid},
			{"b", "a b", ociregistry.ErrManifestInvalid},
			{"B", "v1", ociregistry.ErrNameInvalid},
			{"b", "denied", ociregistry.ErrDenied},
		}
		dst.before = func(_ context.Context, _, _, ref string) error {
			if ref == "denied" {
				return ociregistry.ErrDenied
			}
			return nil
		}
		for _, test := range tests {
			for _, ref := range []string{"v1", string(image.Descriptor.Digest)} {
				_, err := Copy(t.Context(), Place{dst, test.repo, test.ref}, Place{src, "a", ref}, nil)
				qt.Check(t, qt.ErrorIs(err, test.want), qt.Commentf("%+v", test))
				if test.want == ociregistry.ErrDenied {
					qt.Check(t, qt.ErrorMatches(err, ".+: at the destination: .+"))
				}
				qt.Check(t, qt.ErrorMatches(err, `copy of a[:@]\S+ to [bB]:.+: .+`))
			}
		}
		qt.Check(t, qt.Equals(src.take(), ""))
	})
}
