package ociauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Some registries answer those who send no credentials as if there were nothing,
// and do not say how to authenticate. At /v2/ they do (distribution specification,
// section "Determining Support").

// hides reports whether a response may be what a registry tells only those who send
// no credentials. After a redirect, somebody else may have answered.
func (x *exchange) hides(resp *http.Response, cred credential) bool {
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
	default:
		return false
	}
	return cred.header == nil && x.req.Response == nil && x.refusal == nil && x.hasStored()
}

// probe returns how the registry wants to be authenticated to. If that is not known,
// it asks once, by a request without credentials like req. Others who want to know
// wait for the answer. It is remembered even if it has no challenge.
func (r *registry) probe(req *http.Request) (offer, error) {
	if o := r.current(); !o.isZero() || r.probed.Load() {
		return o, nil
	}
	return r.probeCalls.do(req.Context(), struct{}{}, func(ctx context.Context) (offer, error) {
		if r.probed.Load() {
			return r.current(), nil // somebody asked just before
		}
		o, err := r.sendProbe(ctx, req)
		if err != nil {
			return offer{}, fmt.Errorf("asking %s how to authenticate: %w", r.origin.host, err)
		}
		if !o.isZero() {
			r.setCurrent(o)
		}
		r.probed.Store(true)
		return o, nil
	})
}

// sendProbe sends the request for the registry of req.
func (r *registry) sendProbe(ctx context.Context, req *http.Request) (offer, error) {
	u := url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: "/v2/"}
	probe, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return offer{}, err
	}
	if agent := req.UserAgent(); agent != "" {
		probe.Header.Set("User-Agent", agent)
	}
	resp, err := r.t.base.RoundTrip(probe)
	if err != nil {
		return offer{}, err
	}
	discard(resp)
	if passes(resp) {
		return offer{}, httpError(nil, resp)
	}
	return readOffer(probe.URL, resp.Header), nil
}
