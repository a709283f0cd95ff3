package ociauth

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// registry is what a transport knows of one registry.
type registry struct {
	t      *transport
	origin origin

	mu       sync.Mutex
	offer    offer // of its last challenge; zero if there was none
	tokens   tokens
	public   tokens              // those that anyone gets, where the stored credentials were refused
	accounts map[string]*account // by repository, as accountOf has it
	noPost   string              // the realm that is known not to take POST
	needless refusals            // of tokens for more than was needed

	hasPublic atomic.Bool // public has had a token
	probed    atomic.Bool // it was asked how to authenticate

	tokenCalls   group[tokenKey, *token]
	accountCalls group[string, *account]
	probeCalls   group[struct{}, offer]
}

func newRegistry(t *transport, o origin) *registry {
	return &registry{t: t, origin: o, accounts: make(map[string]*account)}
}

// current returns the registry's last offer, without the scope that it was for.
func (r *registry) current() offer {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.offer
	if o.bearer != nil {
		o.bearer = &bearer{realm: o.bearer.realm, service: o.bearer.service}
	}
	return o
}

// setCurrent sets the registry's last offer.
func (r *registry) setCurrent(o offer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offer = o
}

// cached returns a token that is at hand and good for s, or nil.
func (r *registry) cached(s Scope) *token {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tokens.find(s, time.Now())
}

// cachedPublic is cached for public tokens.
func (r *registry) cachedPublic(s Scope) *token {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.public.find(s, time.Now())
}

// drop forgets a token that was refused.
func (r *registry) drop(tok *token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tok.key.public {
		r.public.drop(tok)
	} else {
		r.tokens.drop(tok)
	}
}

// keep adds a token to those at hand.
func (r *registry) keep(tok *token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tok.key.public {
		r.public.add(tok, time.Now())
		r.hasPublic.Store(true)
	} else {
		r.tokens.add(tok, time.Now())
	}
}

// token gets a new token for s from the realm of b, and keeps it. Whoever wants
// the same at the same time gets the same.
func (r *registry) token(ctx context.Context, b *bearer, s Scope, key tokenKey, userAgent string) (*token, error) {
	return r.tokenCalls.do(ctx, key, func(ctx context.Context) (*token, error) {
		cached := r.cached
		if key.public {
			cached = r.cachedPublic
		}
		if tok := cached(s); tok != nil {
			return tok, nil // somebody got it just before
		}
		tok, err := tokenRequest{r, b, s, userAgent}.sendFor(ctx, key)
		if err != nil {
			return nil, err
		}
		tok.key, tok.scope = key, s
		r.keep(tok)
		return tok, nil
	})
}

// sendFor asks for a token with the credentials that belong to the key. Those that
// are refused are tried again if they have been replaced.
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
	q.r.refuse(acct)
	renewed, renewErr := q.r.account(ctx, key.account)
	switch {
	case renewErr != nil:
		q.r.accept(acct) // it may be good for something else
		return nil, err
	case renewed == acct && acct.refreshToken() == refresh:
		return nil, err
	}
	return q.send(ctx, renewed)
}

// isRefusal reports whether err is a token server's no to what it was asked, or
// to who asked.
func isRefusal(err error) bool {
	if err == nil {
		return false
	}
	var herr ociregistry.HTTPError
	return errors.Is(err, ociregistry.ErrUnauthorized) || errors.Is(err, ociregistry.ErrDenied) ||
		errors.As(err, &herr) && herr.StatusCode() == http.StatusBadRequest
}
