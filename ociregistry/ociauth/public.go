package ociauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/seed-40b21970/oci/ociregistry"
)

// What is public can be read by those whose stored credentials are refused. An
// answer that anyone gets proves that there is something, and not that there is
// nothing.

// publicToken returns a token that was got without the stored credentials, after
// they were refused. It returns nil if none at hand will do, or if one will that was
// got with them.
func (x *exchange) publicToken() *token {
	if x.registry == nil || !x.registry.hasPublic.Load() || !x.readsPublic() || x.registry.cached(x.required) != nil {
		return nil
	}
	return x.registry.cachedPublic(x.required)
}

// readsPublic reports whether the request may be made without the stored
// credentials when they are refused: it reads content, and nobody has forbidden
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

// believed reports whether an answer that anyone gets is one to go by: it is
// content, or leads to it.
func believed(resp *http.Response) bool { return resp.StatusCode/100 == 2 || resp.StatusCode/100 == 3 }

// passes reports whether an answer says nothing about content, and may be another
// when the caller tries again.
func passes(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	}
	return resp.StatusCode/100 == 5
}

// unbelieved discards an answer that anyone gets, and returns the error in its place:
// the refusal, together with the answer's status if that may pass.
func unbelieved(resp *http.Response, refusal error) error {
	discard(resp)
	if !passes(resp) {
		return refusal
	}
	return fmt.Errorf("%w, without the credentials: %w", httpError(nil, resp), refusal)
}

// httpError returns the error for a response. It leaves out the request, which may
// have credentials.
func httpError(err error, resp *http.Response) error {
	bare := *resp
	bare.Request = nil
	return ociregistry.NewHTTPError(err, resp.StatusCode, &bare, nil)
}

// answeredAnyone returns what counts of an answer to a request that went without
// credentials because the token server had refused them.
func (x *exchange) answeredAnyone(resp *http.Response) (*http.Response, error) {
	switch {
	case !believed(resp), x.isRead() && !x.readsPublic():
		return nil, unbelieved(resp, x.refusal)
	case x.isRead():
		x.warn(x.refusal)
	}
	return resp, nil
}

// mayReadWithout reports whether the request is to be made once more without the
// stored credentials, because they were refused: by the token server, with err, or
// by the registry, with the status 401 for a request with cred.
func (x *exchange) mayReadWithout(resp *http.Response, cred credential, err error) bool {
	refused := false
	if err != nil {
		refused = x.refusal != nil && x.asked.bearer != nil && isCredentialRefusal(err)
	} else if resp.StatusCode == http.StatusUnauthorized && cred.account != nil {
		refused = !x.bare || x.asked.bearer != nil // or else anyone was refused as well
	}
	return refused && x.hasStored() && x.readsPublic() && x.canSendAgain()
}

// isCredentialRefusal reports whether err is a token server's word that the
// credentials are not good, or not for what was asked.
func isCredentialRefusal(err error) bool {
	var herr ociregistry.HTTPError
	return errors.As(err, &herr) && (errors.Is(err, ociregistry.ErrUnauthorized) || errors.Is(err, ociregistry.ErrDenied))
}

// readWithout makes the request without the stored credentials, which were refused
// with resp, or else by the token server. If that does not succeed, it returns the
// refusal.
func (x *exchange) readWithout(resp *http.Response) (*http.Response, error) {
	refusal := x.refusal
	if resp != nil {
		setAside(resp)
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
	case !believed(open) && !passes(open) && resp != nil:
		discard(open)
		return resp, nil
	case !believed(open):
		return nil, unbelieved(open, refusal)
	}
	x.warn(refusal)
	return open, nil
}

// sendAsAnyone sends the request without anything, if it was not sent so before, and
// then with a token that anyone gets, if the registry asks for one.
func (x *exchange) sendAsAnyone() (*http.Response, error) {
	b := x.asked.bearer
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
	if err == nil && !believed(resp) && !passes(resp) {
		x.registry.drop(tok)
	}
	return resp, err
}

// warn tells of a refusal, once for an account.
func (x *exchange) warn(refusal error) {
	if x.account.isFirstWarning() {
		x.t.logger.LogAttrs(x.req.Context(), slog.LevelWarn, "stored credentials were refused; what is public is read without them",
			slog.String("registry", x.registry.origin.host), slog.String("error", refusal.Error()))
	}
}
