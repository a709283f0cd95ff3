package ociweb

import (
	"errors"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/internal/rules"
	"github.com/seed-40b21970/oci/ociregistry"
)

// maxReferrers is the maximum number of referrers that a page shows.
const maxReferrers = 100

// referrer is a manifest that says something about another one.
type referrer struct {
	Type     string
	Long     string // the artifact type, if Type is a shorter name of it
	Short    string
	URL      string
	Created  moment
	Size     string
	Tag      string // of cosign, which has it in place of a subject
	Contents string // what its annotations say that it is about
}

// addReferrers adds the referrers of a manifest. That they cannot be listed is no reason not to
// show the rest.
func (x *exchange) addReferrers(p *manifestPage, digest ociregistry.Digest) {
	for desc, err := range x.registry.Referrers(x.ctx, x.repo, digest, "") {
		if errors.Is(err, ociregistry.ErrUnsupported) {
			p.Notes = append(p.Notes, "This registry does not list referrers, such as signatures.")
			break
		}
		if err != nil {
			if x.ctx.Err() == nil {
				x.logFailure(err, 0)
			}
			p.Notes = append(p.Notes, "The referrers, such as signatures, cannot be listed.")
			break
		}
		if len(p.Referrers) == maxReferrers {
			p.MoreOf.Referrers = "There are more, which are not shown."
			break
		}
		p.Referrers = append(p.Referrers, x.referrer(desc))
	}
	x.addCosignTags(p, digest)
}

func (x *exchange) referrer(desc ociregistry.Descriptor) referrer {
	r := referrer{
		Type:    typeName(desc.ArtifactType, desc.MediaType),
		Created: x.moment(manifest.ParseCreated(desc.Annotations[ocispec.AnnotationCreated])),
		Size:    size(desc.Size),
	}
	if long := clip(clean(desc.ArtifactType), 120); long != r.Type {
		r.Long = long
	}
	r.Contents = clip(clean(desc.Annotations["dev.sigstore.bundle.predicateType"]), 120)
	r.Short, r.URL = short(desc.Digest), x.manifestURL(string(desc.Digest))
	return r
}

// cosignTags are the suffixes of the tags in which cosign keeps what is about a manifest, and
// what that is.
var cosignTags = []struct{ suffix, name string }{{".sig", "Signature"}, {".att", "Attestation"}, {".sbom", "SBOM"}}

// addCosignTags adds what is tagged as being about a manifest.
func (x *exchange) addCosignTags(p *manifestPage, digest ociregistry.Digest) {
	tag := rules.CosignTag(digest)
	if tag == "" {
		return
	}
	for _, t := range cosignTags {
		desc, err := x.registry.ResolveTag(x.ctx, x.repo, tag+t.suffix)
		if err != nil {
			continue // almost always because there is none
		}
		r := referrer{Type: t.name, Size: size(desc.Size), Tag: tag + t.suffix}
		r.Short, r.URL = short(desc.Digest), x.manifestURL(tag+t.suffix)
		p.Referrers = append(p.Referrers, r)
	}
}
