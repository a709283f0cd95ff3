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

// ReferrersPolicy says how referrers are found and kept.
type ReferrersPolicy int

const (
	// ReferrersAuto uses the referrers API if the registry has it, and else the
	// referrers tag. What the registry has, its answers tell: a first
	// DeleteManifest may cost a request to find it out.
	ReferrersAuto ReferrersPolicy = iota

	// ReferrersAPI uses the API alone.
	ReferrersAPI

	// ReferrersTag uses the referrers tag alone. The client keeps it up to date
	// also where the registry has the API.
	ReferrersTag
)

// referrersExpiry is how long the client believes that the registry has, or has
// not, the referrers API.
const referrersExpiry = 10 * time.Minute

// referrersState is what is known of the registry, and what is to be written to
// its referrers tags.
type referrersState struct {
	mu        sync.Mutex
	supported bool
	until     time.Time
	queues    map[referrersTag]*referrersQueue
}

// referrersSupport returns whether the registry has the API, if that is known.
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
	r := wire.Request{Kind: wire.Referrers, Repo: repo, Digest: digest, ArtifactType: artifactType, ListN: -1}
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

// referrersPages lists referrers by the API, or by the tag.
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
				if page.settled {
					passOver(p.next, ociregistry.ReferrersAfter(ctx))
				}
				if first && err == nil {
					c.noteReferrersSupport(true)
				}
				switch {
				case first && errors.Is(err, ociregistry.ErrNameUnknown):
					return // it has the API, and nothing there
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
		list, err := c.referrersByTag(ctx, r.Repo, r.Digest)
		yield(referrersPage{list: tidyReferrers(list.Manifests, r.ArtifactType), settled: true}, err)
	}
}

func (c *client) newReferrersCall(r wire.Request) *call {
	cl := c.newCall(r)
	cl.set("Accept", ocispec.MediaTypeImageIndex+", application/json;q=0.5")
	return cl
}

var errNoIndex = errors.New("the answer is no image index")

// lacksReferrers reports whether err, of the first answer, says that the registry
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

// parseReferrers returns the referrers in an answer of the API.
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
	return referrersPage{tidyReferrers(index.Manifests, artifactType), len(p.data), settles(p.next, index.Manifests)}, nil
}

// parseIndex parses an image index, whatever media type it came with. There are
// tools that write one without schemaVersion.
func parseIndex(data []byte) (ocispec.Index, error) {
	var index ocispec.Index
	if json.Unmarshal(data, &index) != nil || index.MediaType != "" && index.MediaType != ocispec.MediaTypeImageIndex || index.SchemaVersion != 2 && (index.SchemaVersion != 0 || index.Manifests == nil) {
		return ocispec.Index{}, errNoIndex
	}
	return index, nil
}

// filtered reports whether the registry has filtered by artifact type: by the
// header, or by the annotation of the specification's release candidates.
func filtered(h http.Header, index ocispec.Index) bool {
	applied := append(h.Values("OCI-Filters-Applied"), index.Annotations["org.opencontainers.referrers.filtersApplied"])
	for filter := range strings.SplitSeq(strings.Join(applied, ","), ",") {
		if strings.TrimSpace(filter) == "artifactType" {
			return true
		}
	}
	return false
}

// tidyReferrers returns those of a list that are of a type, unless that is empty,
// once and in order. Those that no method could get are left out.
func tidyReferrers(list []ociregistry.Descriptor, artifactType string) []ociregistry.Descriptor {
	list = slices.DeleteFunc(slices.Clone(list), func(d ociregistry.Descriptor) bool {
		return artifactType != "" && d.ArtifactType != artifactType || !ociref.IsValidDigest(string(d.Digest)) || d.Size < 0
	})
	slices.SortStableFunc(list, byDigest)
	return slices.CompactFunc(list, func(a, b ociregistry.Descriptor) bool { return a.Digest == b.Digest })
}

func byDigest(a, b ociregistry.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) }
