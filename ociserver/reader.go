package ociserver

import (
	"net/http"
	"strconv"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

func (x *exchange) headBlob() error {
	desc, err := x.backend.ResolveBlob(x.ctx(), x.Repository, x.Digest)
	if err != nil {
		return err
	}
	if done, err := x.answeredByCondition(x.Digest); done || err != nil {
		return err
	}
	x.setBlobHeaders(desc)
	x.writeHeader(http.StatusOK)
	return nil
}

func (x *exchange) getBlob() error {
	if x.conditional() || x.mayRedirect() || x.opts.LocationsForDescriptor != nil {
		if done, err := x.answeredWithoutContent(); done || err != nil {
			return err
		}
	}
	wanted := x.wantedRanges()
	if rng, ok := wire.ParseRange(wanted); ok {
		return x.getBlobRange(rng)
	}
	if ranges, ok := wire.ParseRanges(wanted); ok {
		return x.getBlobRanges(ranges)
	}
	return x.getWholeBlob()
}

// answeredWithoutContent answers a GET of a blob without opening it, if possible, so that the
// backend does not begin to send it in vain.
func (x *exchange) answeredWithoutContent() (bool, error) {
	for _, step := range []func() (bool, error){x.notModified, x.redirected, x.sentElsewhere} {
		if done, err := step(); done || err != nil {
			return done, err
		}
	}
	return false, nil
}

func (x *exchange) getWholeBlob() error {
	r, err := x.backend.GetBlob(x.ctx(), x.Repository, x.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	desc := r.Descriptor()
	x.setBlobHeaders(desc)
	x.sendContent(http.StatusOK, r, desc.Size, desc)
	return nil
}

func (x *exchange) setBlobHeaders(desc ociregistry.Descriptor) {
	desc.Digest = x.Digest
	x.header()["Accept-Ranges"] = acceptRanges
	setContent(x.header(), desc)
}

func (x *exchange) headManifest() error {
	desc, err := x.resolveManifest()
	if err != nil {
		return err
	}
	if done, err := x.answeredByCondition(desc.Digest); done || err != nil {
		return err
	}
	x.setManifestHeaders(desc)
	x.writeHeader(http.StatusOK)
	return nil
}

func (x *exchange) getManifest() error {
	if x.conditional() {
		desc, err := x.resolveManifest()
		if err != nil {
			return err
		}
		if done, err := x.answeredByCondition(desc.Digest); done || err != nil {
			return err
		}
	}
	r, err := x.openManifest()
	if err != nil {
		return err
	}
	defer r.Close()
	desc := r.Descriptor()
	x.setManifestHeaders(desc)
	x.sendContent(http.StatusOK, r, desc.Size, desc)
	return nil
}

func (x *exchange) openManifest() (ociregistry.BlobReader, error) {
	if x.Tag != "" {
		return x.backend.GetTag(x.ctx(), x.Repository, x.Tag)
	}
	return x.backend.GetManifest(x.ctx(), x.Repository, x.Digest)
}

func (x *exchange) resolveManifest() (ociregistry.Descriptor, error) {
	if x.Tag != "" {
		return x.backend.ResolveTag(x.ctx(), x.Repository, x.Tag)
	}
	return x.backend.ResolveManifest(x.ctx(), x.Repository, x.Digest)
}

func (x *exchange) setManifestHeaders(desc ociregistry.Descriptor) {
	x.noteAccept(desc.MediaType)
	h := x.header()
	setContent(h, desc)
	if x.opts.OmitDigestFromTagGetResponse && x.Tag != "" && x.req.Method == http.MethodGet {
		delete(h, "Docker-Content-Digest")
		delete(h, "Etag")
	}
}

// setContent sets the headers that describe the content. A negative size is unknown.
//
// Nearly every answer has these headers, so they cost one allocation for their texts
// and one for their values.
func setContent(h http.Header, desc ociregistry.Descriptor) {
	var buf [160]byte // enough for a SHA-512 digest
	text := append(append(append(buf[:0], '"'), desc.Digest...), '"')
	text = strconv.AppendInt(text, desc.Size, 10)
	both, tagLen := string(text), len(desc.Digest)+2
	values := []string{mediaType(desc), string(desc.Digest), both[:tagLen], both[tagLen:]}
	h["Content-Type"] = values[0:1:1]
	h["Docker-Content-Digest"] = values[1:2:2]
	h["Etag"] = values[2:3:3]
	if desc.Size >= 0 {
		h["Content-Length"] = values[3:4:4]
	}
}

// mediaType returns the media type of the answer. If a remote registry gave a malformed
// one, that is application/octet-stream, because a browser would guess otherwise.
func mediaType(desc ociregistry.Descriptor) string {
	if desc.MediaType != mediaTypeOctetStream && ociregistry.CheckMediaType(desc.MediaType) != nil {
		return mediaTypeOctetStream
	}
	return desc.MediaType
}
