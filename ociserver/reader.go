package ociserver

import (
	"net/http"
	"strconv"

	"github.com/seed-40b21970/oci/ociregistry"
)

func (x *exchange) headBlob() error {
	desc, err := x.backend.ResolveBlob(x.ctx(), x.Repo, x.Digest)
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
	// What can be answered without the content is, so that the backend does not
	// begin to send it for nothing.
	if x.conditional() || x.opts.LocationsForDescriptor != nil {
		desc, err := x.backend.ResolveBlob(x.ctx(), x.Repo, x.Digest)
		if err != nil {
			return err
		}
		if done, err := x.answeredByCondition(x.Digest); done || err != nil {
			return err
		}
		if loc, err := x.externalLocation(false, desc); err != nil {
			return err
		} else if loc != "" {
			x.header().Set("Location", loc)
			x.writeHeader(http.StatusTemporaryRedirect)
			return nil
		}
	}
	if rng, ok := x.wantedRange(); ok {
		return x.getBlobRange(rng)
	}
	return x.getWholeBlob()
}

func (x *exchange) getWholeBlob() error {
	r, err := x.backend.GetBlob(x.ctx(), x.Repo, x.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	desc := r.Descriptor()
	x.setBlobHeaders(desc)
	n := x.send(http.StatusOK, r, desc.Size)
	x.emit(Event{Action: ActionPull, Descriptor: desc, Bytes: n})
	return nil
}

func (x *exchange) setBlobHeaders(desc ociregistry.Descriptor) {
	h := x.header()
	h["Content-Type"] = contentType(desc.MediaType)
	h["Accept-Ranges"] = acceptRanges
	h.Set("Docker-Content-Digest", string(x.Digest))
	h.Set("Etag", etag(x.Digest))
	setContentLength(h, desc.Size)
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
	n := x.send(http.StatusOK, r, desc.Size)
	x.emit(Event{Action: ActionPull, Manifest: true, Descriptor: desc, Bytes: n})
	return nil
}

func (x *exchange) openManifest() (ociregistry.BlobReader, error) {
	if x.Tag != "" {
		return x.backend.GetTag(x.ctx(), x.Repo, x.Tag)
	}
	return x.backend.GetManifest(x.ctx(), x.Repo, x.Digest)
}

func (x *exchange) resolveManifest() (ociregistry.Descriptor, error) {
	if x.Tag != "" {
		return x.backend.ResolveTag(x.ctx(), x.Repo, x.Tag)
	}
	return x.backend.ResolveManifest(x.ctx(), x.Repo, x.Digest)
}

func (x *exchange) setManifestHeaders(desc ociregistry.Descriptor) {
	x.noteAccept(desc.MediaType)
	h := x.header()
	h["Content-Type"] = contentType(desc.MediaType)
	omit := x.opts.OmitDigestFromTagGetResponse && x.Tag != "" && x.req.Method == http.MethodGet
	if !omit {
		h.Set("Docker-Content-Digest", string(desc.Digest))
		h.Set("Etag", etag(desc.Digest))
	}
	setContentLength(h, desc.Size)
}

// contentType returns the value of the header for content of a media type. What is
// none, though some registry said so, is named as what nobody knows: a browser
// would make something of it.
func contentType(mediaType string) []string {
	if mediaType == mediaTypeOctetStream || ociregistry.CheckMediaType(mediaType) != nil {
		return octetStream
	}
	return []string{mediaType}
}

// setContentLength announces size bytes, unless it is negative because the
// backend does not know.
func setContentLength(h http.Header, size int64) {
	if size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
}
