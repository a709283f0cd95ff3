package ociserver

import (
	"errors"
	"net/http"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Action is something that can be done with a repository. The words of the three
// packages that speak of permissions are:
//
//	ociserver     ociauth                       ocifilter
//	ActionPull    ActionPull                    AccessRead, and AccessList of tags and referrers
//	ActionPush    ActionPush, with ActionPull   AccessWrite
//	ActionDelete  ActionDelete                  AccessDelete
//	ActionList    CatalogScope                  AccessList of "*"
//
// A server sees requests, ociauth names what a token permits, and ocifilter sees the
// methods of [ociregistry.Interface].
type Action string

const (
	ActionPull   Action = "pull"   // read blobs, manifests, tags and referrers
	ActionPush   Action = "push"   // add blobs, manifests and tags; inspect and cancel uploads
	ActionDelete Action = "delete" // delete blobs, manifests and tags
	ActionList   Action = "list"   // list the catalog; only for the whole registry

	// ActionMount occurs only in events. For authorization, a mount is a push to
	// one repository and a pull from the other.
	ActionMount Action = "mount"
)

// Access is an action on a repository, or on every repository if Repository is
// empty.
type Access struct {
	Repository string
	Action     Action
}

// AuthorizeFunc decides whether a request may do all that it wants. It is called once
// for each well-formed request, before the backend is called and before the body is
// read. What a request wants is
//
//   - nothing for the ping at /v2/, by which clients find out whether they must
//     authenticate,
//   - [ActionList] of the whole registry for the catalog,
//   - a push to one repository and a pull from the other for a mount that names both,
//   - one action on one repository for every other request.
//
// Many clients, skopeo and podman among them, never send credentials if the answer to
// the ping did not ask for them. So if anything needs credentials, the ping of a client
// without credentials must be refused.
//
// An error refuses the request. It is an error of [Unauthorized] if the client should
// authenticate, or an error that wraps [ociregistry.ErrDenied]. Any other error is
// answered as if the backend had returned it.
//
// The returned function reports what else the client may do: for the catalog, which
// repositories it may pull, since no others are listed; for a mount that does not name
// its source, whether it may pull from every repository. A nil function allows nothing.
//
// Both functions may be called from several goroutines at once.
//
// Passwords in each request (the Basic scheme) are the simplest way. Docker does not use it
// without credentials, so that it cannot pull what is public from a registry that asks for
// them in this way. Tokens of a token server (the Bearer scheme) are for public content too,
// and keep passwords away from the registry. There is an example of both. The scopes of
// tokens are those of package ociauth, whose ParseScope reads what a client asks for.
//
// Package ociweb takes the same function for its pages. A browser asks people for the
// password of the Basic scheme; but it has no tokens, so that pages beside a registry with
// tokens need another function, such as one that knows the session of a web site.
type AuthorizeFunc func(req *http.Request, want []Access) (may func(Access) bool, err error)

// Unauthorized returns an [ociregistry.ErrUnauthorized] that is answered with the
// given challenge, the value of a WWW-Authenticate header (RFC 9110, section 11.6.1),
// such as
//
//	Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:foo:pull"
//
// An ErrUnauthorized without a challenge is answered with one for Basic
// authentication.
func Unauthorized(challenge string) error { return &challengeError{challenge} }

type challengeError struct{ challenge string }

func (e *challengeError) Error() string { return e.Unwrap().Error() }
func (e *challengeError) Unwrap() error { return ociregistry.ErrUnauthorized }

const defaultChallenge = `Basic realm="registry", charset="UTF-8"`

// Challenge returns the WWW-Authenticate header of an answer that refuses a request with err,
// an [ociregistry.ErrUnauthorized]: that of [Unauthorized], or else one for Basic
// authentication. It is for other handlers beside that of this package. It ignores a challenge
// in the response of another server, which would make clients send their credentials there.
func Challenge(err error) string {
	var e *challengeError
	if errors.As(err, &e) && e.challenge != "" {
		return e.challenge
	}
	return defaultChallenge
}

// authorize calls Options.Authorize.
func (x *exchange) authorize() (err error) {
	if x.opts.Authorize == nil {
		return nil
	}
	x.may, err = x.opts.Authorize(x.req, x.wanted())
	return err
}

// wanted returns what the request needs access to.
func (x *exchange) wanted() []Access {
	switch x.Kind {
	case wire.Ping:
		return nil
	case wire.Catalog:
		return []Access{{"", ActionList}}
	case wire.BlobMount:
		if x.FromRepository != "" {
			return []Access{{x.Repository, ActionPush}, {x.FromRepository, ActionPull}}
		}
		return []Access{{x.Repository, ActionPush}}
	case wire.BlobPost, wire.ManifestPut,
		wire.UploadStart, wire.UploadStatus, wire.UploadChunk, wire.UploadFinish, wire.UploadCancel:
		return []Access{{x.Repository, ActionPush}}
	case wire.BlobDelete, wire.ManifestDelete:
		return []Access{{x.Repository, ActionDelete}}
	}
	return []Access{{x.Repository, ActionPull}}
}

// mayPull reports whether the client may pull from repo, or from every repository if
// repo is empty.
func (x *exchange) mayPull(repo string) bool {
	if x.opts.Authorize == nil {
		return true
	}
	return x.may != nil && x.may(Access{repo, ActionPull})
}
