package ociauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Public content can be read even if the stored credentials are refused. A response to
// a request without them can prove that there is something, but not that there is
// nothing.

// publicToken returns a cached token that was got without the stored credentials, after
// they were refused. It returns nil if there is none for the request, or if there is one
// that was got with them.
func (x *exchange) publicToken() *token {
	if x.registry == nil || !x.registry.hasPublic.Load() || !x.readsPublic() || x.registry.cached(x.required) != nil {
		return nil
	}
	return x.registry.cachedPublic(x.required)
}

// readsPublic reports whether the request may be sent without the stored credentials
// when they are refused: it reads content, and neither an option nor its context forbids
// that.
func (x *exchange) readsPublic() bool {
	if x.t.noFallback || isWithoutFallback(x.req.Context()) || !x.isRead() || x.required.IsEmpty() {
		return false
	}
	for r := range x.required.Iter() {
		if r.Action != ActionPull && r != CatalogScope {
			return false
		}
	}
	return true
}

func (x *exchange) isRead() bool {
	return x.req.Method == http.MethodGet || x.req.Method == http.MethodHead
}

// isBelieved reports whether a response to a request without the stored credentials
// counts: it is content, or leads to it.
func isBelieved(resp *http.Response) bool {
	return resp.StatusCode/100 == 2 || resp.StatusCode/100 == 3
}

// isTemporary reports whether a response says nothing about content, and may differ
// when the caller tries again.
func isTemporary(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	}
	return resp.StatusCode/100 == 5
}

// disbelieve discards a response to a request without the stored credentials, and
// returns the error in its place: the refusal, together with the response's status if
// that is temporary.
func disbelieve(resp *http.Response, refusal error) error {
	discard(resp)
	if !isTemporary(resp) {
		return refusal
	}
	return fmt.Errorf("%w, without the credentials: %w", httpError(nil, resp), refusal)
}

// httpError returns the error for a response. It omits the request, which may contain
// credentials.
func httpError(err error, resp *http.Response) error {
	bare := *resp
	bare.Request = nil
	return ociregistry.NewHTTPError(err, resp.StatusCode, &bare, nil)
}

// answeredAnyone returns the result of a request that was sent without credentials
// because the token server had refused them.
func (x *exchange) answeredAnyone(resp *http.Response) (*http.Response, error) {
	switch {
	case !isBelieved(resp), x.isRead() && !x.readsPublic():
		return nil, disbelieve(resp, x.refusal)
	case x.isRead():
		x.warn(x.refusal)
	}
	return resp, nil
}

// mayReadWithout reports whether to send the request once more without the stored
// credentials, because they were refused: by the token server, with err, or by the
// registry, with status 401 for a request with cred.
func (x *exchange) mayReadWithout(resp *http.Response, cred credential, err error) bool {
	refused := false
	if err != nil {
		refused = x.refusal != nil && x.offer.bearer != nil && isCredentialRefusal(err)
	} else if resp.StatusCode == http.StatusUnauthorized && cred.account != nil {
		refused = !x.bare || x.offer.bearer != nil // else it was refused without them, too
	}
	return refused && x.hasStored() && x.readsPublic() && x.canSendAgain()
}

// isCredentialRefusal reports whether err is a token server's statement that the
// credentials are wrong, or do not suffice for what was asked.
func isCredentialRefusal(err error) bool {
	var herr ociregistry.HTTPError
	return errors.As(err, &herr) && (errors.Is(err, ociregistry.ErrUnauthorized) || errors.Is(err, ociregistry.ErrDenied))
}

// readWithout sends the request without the stored credentials, which were refused
// with resp, or, if that is nil, by the token server. If that does not succeed, it
// returns the refusal.
func (x *exchange) readWithout(resp *http.Response) (*http.Response, error) {
	refusal := x.refusal
	if resp != nil {
		bufferBody(resp)
		refusal = httpError(ociregistry.ErrUnauthorized, resp)
	}
	open, err := x.sendAsAnyone()
	switch ctx := x.req.Context(); {
	case ctx.Err() != nil:
		if err == nil {
			open.Body.Close()
		}
		return nil, context.Cause(ctx)
	case err != nil && resp != nil:
		return resp, nil
	case err != nil:
		return nil, refusal
	case !isBelieved(open) && !isTemporary(open) && resp != nil:
		discard(open)
		return resp, nil
	case !isBelieved(open):
		return nil, disbelieve(open, refusal)
	}
	x.warn(refusal)
	return open, nil
}

// sendAsAnyone sends the request without credentials, unless that was done before, and
// then, if the registry asks for a token, with one that anyone gets.
func (x *exchange) sendAsAnyone() (*http.Response, error) {
	b := x.offer.bearer
	if !x.bare {
		resp, err := x.send(credential{})
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		if b = readOffer(x.req.URL, resp.Header).bearer; b == nil {
			return resp, nil
		}
		discard(resp)
	}
	scope := leastScope(b, x.required)
	key := newTokenKey(b, scope, "")
	key.public = true
	tok, err := x.registry.token(x.req.Context(), b, scope, key, x.req.UserAgent())
	if err != nil {
		return nil, err
	}
	resp, err := x.send(credential{header: tok.header, token: tok})
	if err == nil && !isBelieved(resp) && !isTemporary(resp) {
		x.registry.drop(tok)
	}
	return resp, err
}

// warn logs a refusal, once for each account.
func (x *exchange) warn(refusal error) {
	if x.account.isFirstWarning() {
		x.t.logger.LogAttrs(x.req.Context(), slog.LevelWarn, "stored credentials were refused; reading public content without them",
			slog.String("registry", x.registry.origin.host), slog.String("error", refusal.Error()))
	}
}
