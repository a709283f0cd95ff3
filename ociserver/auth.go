package ociserver

import (
	"errors"
	"net/http"

	"github.com/seed-40b21970/oci/internal/wire"
	"github.com/seed-40b21970/oci/ociregistry"
)

// Action is a kind of thing that can be done with a repository.
type Action string

const (
	ActionPull   Action = "pull"   // read blobs, manifests, tags and referrers
	ActionPush   Action = "push"   // add blobs, manifests and tags; see and cancel uploads
	ActionDelete Action = "delete" // delete blobs, manifests and tags
	ActionList   Action = "list"   // see the catalog; only of the whole registry

	// ActionMount is only in events: for who asks, it is a push to one
	// repository and a pull from the other.
	ActionMount Action = "mount"
)

// Access is something that can be done with a repository, or, if that is empty,
// with every repository.
type Access struct {
	Repository string
	Action     Action
}

// AuthorizeFunc decides whether a request may do all that it wants: nothing for
// the ping at /v2/, where clients find out whether they need to authenticate;
// [ActionList] of the whole registry for the catalog; a push to one repository
// and a pull from another for a mount that names it; one action with one
// repository for everything else. It is called once for each request that is
// well formed, before the backend is, and before the body is read.
//
// Many clients, skopeo and podman among them, look at the answer to the ping and
// never send credentials if that asked for none. So where anything is to be had
// only with credentials, the ping of a client that has none must be refused.
//
// It refuses by an error: one that [Unauthorized] returns, if the client is to
// authenticate, or one that wraps [ociregistry.ErrDenied]. Any other error is
// answered as if the backend had returned it.
//
// The function may is asked what else the client may do: which repositories it
// may pull, for the catalog, which shows no others; and whether it may pull
// everything, for a mount that does not say where from. A nil function says no.
//
// It is called from many goroutines at once, and so is what it returns.
type AuthorizeFunc func(req *http.Request, want []Access) (may func(Access) bool, err error)

// Unauthorized returns an [ociregistry.ErrUnauthorized] that is answered with
// the challenge, which is the value of a WWW-Authenticate header (RFC 9110,
// section 11.6.1), such as
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

// challengeOf returns the challenge for err. It takes none from the response of
// another server: it would make clients send their credentials there.
func challengeOf(err error) string {
	var e *challengeError
	if errors.As(err, &e) && e.challenge != "" {
		return e.challenge
	}
	return defaultChallenge
}

// authorize asks Options.Authorize.
func (x *exchange) authorize() (err error) {
	if x.opts.Authorize == nil {
		return nil
	}
	x.may, err = x.opts.Authorize(x.req, x.wanted())
	return err
}

func (x *exchange) wanted() []Access {
	switch x.Kind {
	case wire.Ping:
		return nil
	case wire.Catalog:
		return []Access{{"", ActionList}}
	case wire.BlobMount:
		if x.FromRepo != "" {
			return []Access{{x.Repo, ActionPush}, {x.FromRepo, ActionPull}}
		}
		return []Access{{x.Repo, ActionPush}}
	case wire.BlobPost, wire.ManifestPut,
		wire.UploadStart, wire.UploadStatus, wire.UploadChunk, wire.UploadFinish, wire.UploadCancel:
		return []Access{{x.Repo, ActionPush}}
	case wire.BlobDelete, wire.ManifestDelete:
		return []Access{{x.Repo, ActionDelete}}
	}
	return []Access{{x.Repo, ActionPull}}
}

// mayPull reports whether the client may pull from repo; if that is empty, from
// every repository.
func (x *exchange) mayPull(repo string) bool {
	if x.opts.Authorize == nil {
		return true
	}
	return x.may != nil && x.may(Access{repo, ActionPull})
}
