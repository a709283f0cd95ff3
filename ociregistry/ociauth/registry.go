package ociauth

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// registry is what a transport knows of one registry that has asked for
// authentication.
type registry struct {
	t      *transport
	origin origin

	mu       sync.Mutex
	offer    offer // of its last challenge
	tokens   tokens
	accounts map[string]*account // by repository, as accountOf has it
	noPost   string              // the realm that is known not to take POST

	tokenCalls   group[tokenKey, *token]
	accountCalls group[string, *account]
}

func newRegistry(t *transport, o origin) *registry {
	return &registry{t: t, origin: o, accounts: make(map[string]*account)}
}

// current returns the registry's last offer.
func (r *registry) current() offer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.offer
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

// drop forgets a token that was refused.
func (r *registry) drop(tok *token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens.drop(tok)
}

// token gets a new token for s from the realm of b, and keeps it. Whoever wants
// the same at the same time gets the same.
func (r *registry) token(ctx context.Context, b *bearer, s Scope, key tokenKey, userAgent string) (*token, error) {
	return r.tokenCalls.do(ctx, key, func(ctx context.Context) (*token, error) {
		if tok := r.cached(s); tok != nil {
			return tok, nil // somebody got it just before
		}
		req := tokenRequest{r, b, s, userAgent}
		acct, err := r.account(ctx, key.account)
		if err != nil {
			return nil, err
		}
		refresh := acct.refreshToken()
		tok, err := req.send(ctx, acct)
		if isRefusal(err) {
			r.refuse(acct)
			renewed, renewErr := r.account(ctx, key.account)
			if renewErr != nil || renewed == acct && acct.refreshToken() == refresh {
				return nil, err
			}
			tok, err = req.send(ctx, renewed)
		}
		if err != nil {
			return nil, err
		}
		tok.key, tok.scope = key, s
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tokens.add(tok, time.Now())
		return tok, nil
	})
}

// isRefusal reports whether err is a token server's no to what it was asked, or
// to who asked.
func isRefusal(err error) bool {
	var herr ociregistry.HTTPError
	return errors.Is(err, ociregistry.ErrUnauthorized) || errors.Is(err, ociregistry.ErrDenied) ||
		errors.As(err, &herr) && herr.StatusCode() == http.StatusBadRequest
}
