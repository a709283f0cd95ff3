package ociauth

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/internal/flight"
	"github.com/seed-40b21970/oci/ociregistry"
)

// registry is what a transport knows about one registry.
type registry struct {
	t      *transport
	origin origin

	mu       sync.Mutex
	offer    offer // of its last challenge; zero if there was none
	tokens   tokens
	public   tokens              // got without the stored credentials, which were refused
	accounts map[string]*account // by accountKey
	noPost   string              // a realm that is known not to take POST
	excess   refusals            // of tokens for more than was needed

	hasPublic atomic.Bool // public has had a token
	probed    atomic.Bool // the registry was asked how to authenticate

	tokenCalls   flight.Group[tokenKey, *token]
	accountCalls flight.Group[string, *account]
	probeCalls   flight.Group[struct{}, offer]
}

func newRegistry(t *transport, o origin) *registry {
	return &registry{t: t, origin: o, accounts: make(map[string]*account)}
}

// lastOffer returns the registry's last offer, without its scope.
func (r *registry) lastOffer() offer {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.offer
	if o.bearer != nil {
		o.bearer = &bearer{realm: o.bearer.realm, service: o.bearer.service}
	}
	return o
}

// setLastOffer sets the registry's last offer.
func (r *registry) setLastOffer(o offer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offer = o
}

// cached returns a cached token that is valid for s, or nil.
func (r *registry) cached(s Scope) *token {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tokens.find(s, time.Now())
}

// cachedPublic is like cached, for public tokens.
func (r *registry) cachedPublic(s Scope) *token {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.public.find(s, time.Now())
}

// drop removes a token that was refused.
func (r *registry) drop(tok *token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tok.key.public {
		r.public.drop(tok)
	} else {
		r.tokens.drop(tok)
	}
}

// add adds a token to the cached ones.
func (r *registry) add(tok *token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tok.key.public {
		r.public.add(tok, time.Now())
		r.hasPublic.Store(true)
	} else {
		r.tokens.add(tok, time.Now())
	}
}

// token gets a new token for s from the realm of b, and caches it. Concurrent callers
// with the same key share one request.
func (r *registry) token(ctx context.Context, b *bearer, s Scope, key tokenKey, userAgent string) (*token, error) {
	return r.tokenCalls.Do(ctx, key, func(ctx context.Context) (*token, error) {
		cached := r.cached
		if key.public {
			cached = r.cachedPublic
		}
		if tok := cached(s); tok != nil {
			return tok, nil // another caller got it just before
		}
		tok, err := tokenRequest{r, b, s, userAgent}.sendFor(ctx, key)
		if err != nil {
			return nil, err
		}
		tok.key, tok.scope = key, s
		r.add(tok)
		return tok, nil
	})
}

// sendFor asks for a token with the credentials that belong to the key. If they are
// refused and have been replaced meanwhile, it asks again with the new ones.
func (q tokenRequest) sendFor(ctx context.Context, key tokenKey) (*token, error) {
	if key.public {
		return q.send(ctx, newAccount(ConfigEntry{}))
	}
	acct, err := q.r.account(ctx, key.account)
	if err != nil {
		return nil, err
	}
	refresh := acct.refreshToken()
	tok, err := q.send(ctx, acct)
	if !isRefusal(err) {
		return tok, err
	}
	q.r.markRefused(acct)
	renewed, renewErr := q.r.account(ctx, key.account)
	switch {
	case renewErr != nil:
		q.r.unmarkRefused(acct) // it may be valid for something else
		return nil, err
	case renewed == acct && acct.refreshToken() == refresh:
		return nil, err
	}
	return q.send(ctx, renewed)
}

// isRefusal reports whether err is a token server's refusal of what it was asked for,
// or of the account.
func isRefusal(err error) bool {
	if err == nil {
		return false
	}
	var herr ociregistry.HTTPError
	return errors.Is(err, ociregistry.ErrUnauthorized) || errors.Is(err, ociregistry.ErrDenied) ||
		errors.As(err, &herr) && herr.StatusCode() == http.StatusBadRequest
}
