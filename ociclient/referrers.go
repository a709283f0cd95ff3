package ociclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// ReferrersPolicy says how the client finds and records referrers.
type ReferrersPolicy int

const (
	// ReferrersAuto uses the referrers API if the registry has it, and otherwise the
	// referrers tag. The client learns from the registry's responses whether it has
	// the API; the first DeleteManifest may cost a request to find out.
	ReferrersAuto ReferrersPolicy = iota

	// ReferrersAPI uses the referrers API only.
	ReferrersAPI

	// ReferrersTag uses the referrers tag only. The client keeps it up to date even
	// if the registry has the API.
	ReferrersTag
)

// referrersExpiry is how long the client remembers whether the registry has the referrers
// API.
const referrersExpiry = 10 * time.Minute

// referrersState is what the client knows about the registry's support of referrers, and
// the changes to its referrers tags that are pending.
type referrersState struct {
	mu        sync.Mutex
	supported bool
	until     time.Time
	queues    map[referrersTag]*referrersQueue
}

// referrersSupport reports whether the registry has the API, and whether that is known.
func (c *client) referrersSupport() (supported, known bool) {
	switch c.opts.Referrers {
	case ReferrersAPI:
		return true, true
	case ReferrersTag:
		return false, true
	}
	s := &c.referrers
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.supported, c.opts.clock.now().Before(s.until)
}

func (c *client) noteReferrersSupport(supported bool) {
	s := &c.referrers
	s.mu.Lock()
	defer s.mu.Unlock()
	s.supported, s.until = supported, c.opts.clock.now().Add(referrersExpiry)
}

func (c *client) Referrers(ctx context.Context, repo string, digest ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	about := c.about("Referrers", repo, string(digest))
	r := wire.Request{Kind: wire.Referrers, Repository: repo, Digest: digest, ArtifactType: artifactType, ListN: -1}
	return func(yield func(ociregistry.Descriptor, error) bool) {
		if err := r.Check(); err != nil {
			yield(ociregistry.Descriptor{}, about.wrap(err))
			return
		}
		inOrder(c.referrersPages(ctx, r))(func(desc ociregistry.Descriptor, err error) bool {
			return yield(desc, about.wrap(err))
		})
	}
}

// referrersPages lists referrers by the API or by the tag.
func (c *client) referrersPages(ctx context.Context, r wire.Request) iter.Seq2[referrersPage, error] {
	return func(yield func(referrersPage, error) bool) {
		first := true
		supported, known := c.referrersSupport()
		if supported || !known {
			for p, err := range c.pages(ctx, c.newReferrersCall(r)) {
				var page referrersPage
				if err == nil {
					page, err = parseReferrers(p, r.ArtifactType)
				}
				if page.ordered {
					skipTo(p.next, ociregistry.ReferrersAfter(ctx))
				}
				if first && err == nil {
					c.noteReferrersSupport(true)
				}
				switch {
				case first && errors.Is(err, ociregistry.ErrNameUnknown):
					return // the registry has the API, but not the repository
				case first && c.opts.Referrers != ReferrersAPI && lacksReferrers(err):
					c.noteReferrersSupport(false)
				case !yield(page, err) || err != nil:
					return
				}
				if err != nil {
					break
				}
				first = false
			}
			if !first {
				return
			}
		}
		list, err := c.referrersByTag(ctx, r.Repository, r.Digest)
		yield(referrersPage{list: tidyReferrers(list.Manifests, r.ArtifactType), ordered: true}, err)
	}
}

func (c *client) newReferrersCall(r wire.Request) *call {
	cl := c.newCall(r)
	cl.set("Accept", ocispec.MediaTypeImageIndex+", application/json;q=0.5")
	return cl
}

var errNoIndex = errors.New("the answer is not an image index")

// lacksReferrers reports whether the error of the first response says that the registry
// does not have the referrers API.
func lacksReferrers(err error) bool {
	if errors.Is(err, errNoIndex) {
		return true
	}
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable:
		return true
	}
	return false
}

// parseReferrers returns the referrers in a response of the API.
func parseReferrers(p page, artifactType string) (referrersPage, error) {
	index, err := parseIndex(p.data)
	if err == nil && isPage(p.resp) {
		err = errNoIndex
	}
	if err != nil {
		return referrersPage{}, err
	}
	if filtered(p.resp.Header, index) {
		artifactType = ""
	}
	return referrersPage{tidyReferrers(index.Manifests, artifactType), len(p.data), isOrderedPage(p.next, index.Manifests)}, nil
}

// parseIndex parses an image index, whatever the Content-Type. Some tools omit
// schemaVersion.
func parseIndex(data []byte) (ocispec.Index, error) {
	var index ocispec.Index
	if json.Unmarshal(data, &index) != nil || index.MediaType != "" && index.MediaType != ocispec.MediaTypeImageIndex || index.SchemaVersion != 2 && (index.SchemaVersion != 0 || index.Manifests == nil) {
		return ocispec.Index{}, errNoIndex
	}
	return index, nil
}

// filtered reports whether the registry has filtered by artifact type, according to the
// header, or to the annotation of the specification's release candidates.
func filtered(h http.Header, index ocispec.Index) bool {
	applied := append(h.Values("OCI-Filters-Applied"), index.Annotations["org.opencontainers.referrers.filtersApplied"])
	for filter := range strings.SplitSeq(strings.Join(applied, ","), ",") {
		if strings.TrimSpace(filter) == "artifactType" {
			return true
		}
	}
	return false
}

// tidyReferrers returns the descriptors of an artifact type, or all if that is empty,
// sorted and without duplicates. It omits invalid ones, which no method accepts.
func tidyReferrers(list []ociregistry.Descriptor, artifactType string) []ociregistry.Descriptor {
	list = slices.DeleteFunc(slices.Clone(list), func(d ociregistry.Descriptor) bool {
		return artifactType != "" && d.ArtifactType != artifactType || !ociref.IsValidDigest(string(d.Digest)) || d.Size < 0
	})
	slices.SortStableFunc(list, byDigest)
	return slices.CompactFunc(list, func(a, b ociregistry.Descriptor) bool { return a.Digest == b.Digest })
}

func byDigest(a, b ociregistry.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) }
