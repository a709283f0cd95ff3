package ociauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Some registries answer requests without credentials as if there were nothing, and
// send no challenge. They do send one at /v2/ (distribution specification, section
// "Determining Support").

// hides reports whether a response may differ for a request with credentials. After a
// redirect, another server may have answered.
func (x *exchange) hides(resp *http.Response, cred credential) bool {
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
	default:
		return false
	}
	return cred.header == nil && x.req.Response == nil && x.refusal == nil && x.hasStored()
}

// probe returns the registry's offer. If there is none yet, it asks the registry once,
// by a request without credentials to the host of req. Concurrent callers share the
// request. The answer is remembered even if it has no challenge.
func (r *registry) probe(req *http.Request) (offer, error) {
	if o := r.lastOffer(); !o.isZero() || r.probed.Load() {
		return o, nil
	}
	return r.probeCalls.Do(req.Context(), struct{}{}, func(ctx context.Context) (offer, error) {
		if r.probed.Load() {
			return r.lastOffer(), nil // another caller asked just before
		}
		o, err := r.sendProbe(ctx, req)
		if err != nil {
			return offer{}, fmt.Errorf("asking %s how to authenticate: %w", r.origin.host, err)
		}
		if !o.isZero() {
			r.setLastOffer(o)
		}
		r.probed.Store(true)
		return o, nil
	})
}

// sendProbe asks the host of req for its challenge at /v2/.
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
	if isTemporary(resp) {
		return offer{}, httpError(nil, resp)
	}
	return readOffer(probe.URL, resp.Header), nil
}
