// Package wire has the grammar of the distribution API in HTTP: methods and URLs of
// requests, ranges, links, challenges and warnings. Servers parse with it what clients
// write with it, and the other way round.
//
// The names in a parsed request are well formed, so that a server that parses its
// requests here passes nothing else to its backend. No parser allocates memory by a size
// that the text claims.
package wire

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/call"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Kind is the kind of a request. The comments have the number of the endpoint in the
// specification's section "Endpoints".
type Kind int

const (
	Ping           Kind = iota // end-1
	Catalog                    // GET /v2/_catalog, of Docker's API
	TagsList                   // end-8
	Referrers                  // end-12
	BlobGet                    // end-2
	BlobHead                   // end-2
	BlobDelete                 // end-10
	BlobPost                   // end-4b: a whole blob in one request
	BlobMount                  // end-11
	UploadStart                // end-4a, end-4c
	UploadStatus               // end-13
	UploadChunk                // end-5
	UploadFinish               // end-6
	UploadCancel               // end-14
	ManifestGet                // end-3
	ManifestHead               // end-3
	ManifestPut                // end-7
	ManifestDelete             // end-9
)

var methods = [...]string{
	Ping:           http.MethodGet,
	Catalog:        http.MethodGet,
	TagsList:       http.MethodGet,
	Referrers:      http.MethodGet,
	BlobGet:        http.MethodGet,
	BlobHead:       http.MethodHead,
	BlobDelete:     http.MethodDelete,
	BlobPost:       http.MethodPost,
	BlobMount:      http.MethodPost,
	UploadStart:    http.MethodPost,
	UploadStatus:   http.MethodGet,
	UploadChunk:    http.MethodPatch,
	UploadFinish:   http.MethodPut,
	UploadCancel:   http.MethodDelete,
	ManifestGet:    http.MethodGet,
	ManifestHead:   http.MethodHead,
	ManifestPut:    http.MethodPut,
	ManifestDelete: http.MethodDelete,
}

// Method returns the HTTP method of requests of kind k.
func (k Kind) Method() string { return methods[k] }

// maxUploadID bounds the length of an upload id, in bytes. A backend may use a URL as an
// id.
const maxUploadID = 4096

// Request is a request of the distribution API. Fields that its Kind does not use are
// zero, except ListN.
type Request struct {
	Kind Kind

	// Repository is the repository, for all kinds except Ping and Catalog.
	Repository string

	// Digest is the digest of the blob, of the subject for Referrers, or of a
	// manifest without Tag.
	Digest ociregistry.Digest

	// Tag is the tag of a manifest without Digest.
	Tag string

	// Tags has further tags for ManifestPut to set.
	Tags []string

	// FromRepository is the repository that BlobMount mounts from, or empty for any.
	FromRepository string

	// UploadID is the id of the session for UploadStatus, UploadChunk,
	// UploadFinish and UploadCancel. URLs have it encoded: see EncodeUploadID.
	UploadID string

	// Algorithm is the digest algorithm that UploadStart announces, or empty.
	Algorithm digest.Algorithm

	// ListN is the number of elements that Catalog and TagsList ask for. A negative
	// value means that the request does not say.
	ListN int

	// ListLast is the element after which Catalog, TagsList and Referrers begin,
	// or empty. For Referrers, whose paging has no parameters in the
	// specification, it is the digest of a referrer.
	ListLast string

	// ArtifactType is the type that Referrers asks for, or empty for all.
	ArtifactType string

	// Namespace is the host under which the client knows the repository, for the
	// kinds that read from one (specification, section "Registry Proxying").
	// Check does not check it.
	Namespace string
}

// Ref returns what the specification calls <tag-or-digest>.
func (r *Request) Ref() string {
	if r.Tag != "" {
		return r.Tag
	}
	return string(r.Digest)
}

// SetRef sets Tag or Digest to what Ref is to return.
func (r *Request) SetRef(ref string) {
	if call.IsDigest(ref) {
		r.Tag, r.Digest = "", ociregistry.Digest(ref)
	} else {
		r.Tag, r.Digest = ref, ""
	}
}

// Check checks the names in r, in the order that [ociregistry.Interface] requires. For the
// first one that is not well formed, it returns the error that the methods of the
// Interface return, which wraps [ociregistry.ErrNameInvalid],
// [ociregistry.ErrDigestInvalid], [ociregistry.ErrManifestInvalid],
// [ociregistry.ErrManifestUnknown] or [ociregistry.ErrBlobUploadUnknown].
func (r *Request) Check() error {
	if r.Kind != Ping && r.Kind != Catalog {
		if err := ociregistry.CheckRepository(r.Repository); err != nil {
			return err
		}
	}
	if r.FromRepository != "" {
		if err := ociregistry.CheckRepository(r.FromRepository); err != nil {
			return err
		}
	}
	switch r.Kind {
	case Referrers, BlobGet, BlobHead, BlobDelete, BlobPost, BlobMount, UploadFinish:
		if err := ociregistry.CheckDigest(r.Digest); err != nil {
			return err
		}
	case ManifestGet, ManifestHead, ManifestPut, ManifestDelete:
		if err := r.checkRef(); err != nil {
			return err
		}
	}
	switch r.Kind {
	case UploadStatus, UploadChunk, UploadFinish, UploadCancel:
		if !validUploadID(r.UploadID) {
			return ociregistry.ErrBlobUploadUnknown
		}
	}
	switch r.Algorithm {
	case "", digest.SHA256, digest.SHA512:
		return nil
	}
	return errBadAlgorithm
}

var errBadAlgorithm = ociregistry.NewError("unsupported digest algorithm", ociregistry.ErrDigestInvalid.Code(), nil)

func (r *Request) checkRef() error {
	if r.Tag == "" {
		if err := ociregistry.CheckDigest(r.Digest); err != nil {
			return err
		}
	} else if err := r.checkTag(r.Tag); err != nil {
		return err
	}
	for _, tag := range r.Tags {
		if err := r.checkTag(tag); err != nil {
			return err
		}
	}
	return nil
}

func (r *Request) checkTag(tag string) error {
	if r.Kind == ManifestPut {
		return call.CheckTagsToSet(tag)
	}
	if !ociref.IsValidTag(tag) {
		return ociregistry.ErrManifestUnknown // it cannot exist
	}
	return nil
}

// validUploadID reports whether id could name a session of some backend.
func validUploadID(id string) bool {
	return id != "" && len(id) <= maxUploadID && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}
