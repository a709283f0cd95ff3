package ociweb

import (
	"errors"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// summary is what the manifest of a tag says in one line.
type summary struct {
	Short     string // the digest
	DigestURL string
	Type      string // what it is, if it is no image
	Platforms []string
	More      int // platforms that are not shown
	Size      string
	Created   moment
	Problem   string

	digest ociregistry.Digest
	bytes  int64
	time   time.Time
}

// summary reads the manifest of a tag, and the configuration of an image.
func (x *exchange) summary(tag string) (s summary) {
	d, err := x.readManifest(tag)
	if err != nil {
		s.Problem = x.problem(err)
		return s
	}
	s.digest = d.desc.Digest
	s.Short, s.DigestURL = short(s.digest), x.manifestURL(string(s.digest))
	switch {
	case d.tooLarge:
		s.Problem = "The manifest is too large to be shown."
		return s
	case d.isIndex():
		x.summarizeIndex(&s, d)
	case d.isImage():
		x.summarizeImage(&s, d)
	default:
		s.Type = typeName(d.artifactType(), d.desc.MediaType)
		s.bytes, s.time = d.pullSize(), d.created(config{})
	}
	if s.bytes > 0 {
		s.Size = size(s.bytes)
	}
	s.Created = x.moment(s.time)
	return s
}

// summarizeImage sets what is known of an image.
func (x *exchange) summarizeImage(s *summary, d *document) {
	c, _ := x.readConfig(d)
	s.bytes, s.time = d.pullSize(), d.created(c)
	if p := c.platform(); p != "" && s.Platforms == nil {
		s.Platforms = []string{p}
	}
}

// summarizeIndex sets what is known of an index, and of the image in it that stands for all,
// whose platform is the first.
func (x *exchange) summarizeIndex(s *summary, d *document) {
	chosen := d.choose("")
	if chosen == nil {
		s.Type = "Index"
		return
	}
	if name := chosen.platform(); name != "" {
		s.Platforms = append(s.Platforms, name)
	}
	for _, name := range d.platforms() {
		switch {
		case name == chosen.platform():
		case len(s.Platforms) < maxPlatforms:
			s.Platforms = append(s.Platforms, name)
		default:
			s.More++
		}
	}
	if image, err := x.readManifest(string(chosen.Digest)); err == nil && image.isImage() {
		x.summarizeImage(s, image)
	}
	if t := d.created(config{}); !t.IsZero() {
		s.time = t
	}
}

// problem says why one of several manifests cannot be shown.
func (x *exchange) problem(err error) string {
	switch {
	case errors.Is(err, ociregistry.ErrManifestUnknown), errors.Is(err, ociregistry.ErrNameUnknown):
		return "The manifest is gone."
	case x.ctx.Err() == nil:
		x.logFailure(err, 0)
	}
	return "The manifest cannot be read."
}
