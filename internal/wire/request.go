// Package wire is the grammar of the distribution API as HTTP carries it:
// requests as methods and URLs, ranges, and links. The server reads with it
// what the client writes with it, and the other way round.
//
// The names in a request that was parsed are well formed: a server that parses
// its requests here passes nothing else to its backend. No parser allocates by
// what it is told of sizes.
package wire

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Kind says what a request wants. The comments give the endpoint's number in
// the specification's section "Endpoints".
type Kind int

const (
	Ping           Kind = iota // end-1
	Catalog                    // GET /v2/_catalog, which is Docker's
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

// maxUploadID bounds the bytes of an upload id. It leaves room for the URL that
// a backend may use as one.
const maxUploadID = 4096

// Request is a request of the distribution API. Fields that its Kind has no use
// for are zero, but for ListN.
type Request struct {
	Kind Kind

	// Repo is the repository, of all kinds but Ping and Catalog.
	Repo string

	// Digest is that of the blob, of the subject for Referrers, or of the
	// manifest where it is not asked for by tag.
	Digest ociregistry.Digest

	// Tag is the tag of a manifest that is not asked for by digest.
	Tag string

	// Tags are the further tags that ManifestPut sets.
	Tags []string

	// FromRepo is the repository that BlobMount mounts from, or empty for any.
	FromRepo string

	// UploadID names the session for UploadStatus, UploadChunk, UploadFinish
	// and UploadCancel. In a URL it is encoded: see EncodeUploadID.
	UploadID string

	// Algorithm is the one that UploadStart announces, or empty.
	Algorithm digest.Algorithm

	// ListN is how many elements Catalog and TagsList want, or negative where
	// that is not said.
	ListN int

	// ListLast is the element after which Catalog, TagsList and Referrers
	// begin, or empty. For Referrers, which the specification gives no
	// parameters to page by, it is the digest of a referrer.
	ListLast string

	// ArtifactType is the type that Referrers asks for, or empty for all.
	ArtifactType string

	// Namespace is the host that the client knows the repository by, for the
	// kinds that read from one: the specification's section "Registry
	// Proxying". It is not checked.
	Namespace string
}

// Ref returns what the specification calls <tag-or-digest>.
func (r *Request) Ref() string {
	if r.Tag != "" {
		return r.Tag
	}
	return string(r.Digest)
}

// Check checks the names in r, in the order that [ociregistry.Interface] asks
// for, and returns the error that its methods return for the first that is not
// well formed: it wraps [ociregistry.ErrNameInvalid], ErrDigestInvalid,
// ErrManifestInvalid, ErrManifestUnknown or ErrBlobUploadUnknown.
func (r *Request) Check() error {
	if r.Kind != Ping && r.Kind != Catalog {
		if err := ociregistry.CheckRepository(r.Repo); err != nil {
			return err
		}
	}
	if r.FromRepo != "" {
		if err := ociregistry.CheckRepository(r.FromRepo); err != nil {
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
	switch {
	case ociref.IsValidTag(tag):
		return nil
	case r.Kind == ManifestPut:
		return fmt.Errorf("%w: invalid tag %.130q", ociregistry.ErrManifestInvalid, tag)
	}
	return ociregistry.ErrManifestUnknown // a tag that cannot be is not there
}

// validUploadID reports whether id could name a session of some backend.
func validUploadID(id string) bool {
	return id != "" && len(id) <= maxUploadID && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}
