package ociauth

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
)

// maxSends bounds how often one request is sent: without credentials, with a
// token that turns out to be revoked, with a token for all that was wanted, and
// with one for what the registry asked for. One more is for chance.
const maxSends = 5

// exchange is a request with all that it takes to get it answered.
type exchange struct {
	t        *transport
	req      *http.Request
	required Scope
	origin   origin
	registry *registry // nil while it has not asked for authentication
	account  *account  // the last one that was asked for
	sent     bool

	// What is not to be tried again: what the registry refused fresh tokens for,
	// and the token server a token; and the last word of the latter.
	refused []tokenKey
	refusal error
}

// credential is what a request is sent with.
type credential struct {
	header []string // the Authorization header, or nil for none

	// One of these says where it comes from.
	token   *token
	account *account

	fresh bool // the token was not there before
}

func newExchange(t *transport, req *http.Request) *exchange {
	o := originOf(req.URL)
	return &exchange{t: t, req: req, required: requiredScope(req), origin: o, registry: t.registry(o)}
}

func (x *exchange) do() (*http.Response, error) {
	cred, err := x.foresee()
	if err != nil {
		if x.req.Body != nil {
			x.req.Body.Close()
		}
		return nil, err
	}
	for sends := 1; ; sends++ {
		resp, err := x.send(cred)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			return resp, err
		}
		o := x.learn(resp, cred)
		if o.isZero() || sends == maxSends || !x.canSendAgain() {
			return resp, nil
		}
		setAside(resp)
		cred, err = x.meet(o, cred)
		if err != nil {
			return nil, err
		}
		if cred.header == nil {
			x.registry.refuse(x.account)
			return resp, nil
		}
	}
}

// foresee returns the credential that the registry is going to ask for, as far
// as it is known from earlier requests.
func (x *exchange) foresee() (credential, error) {
	if x.registry == nil {
		return credential{}, nil
	}
	if tok := x.registry.cached(x.required); tok != nil {
		return credential{header: tok.header, token: tok}, nil
	}
	o := x.registry.current()
	if o.bearer != nil {
		o.bearer = &bearer{realm: o.bearer.realm, service: o.bearer.service}
	}
	cred, err := x.meet(o, credential{})
	if isRefusal(err) {
		return credential{}, nil // the registry may ask for less than we thought
	}
	return cred, err
}

// send sends the request, or a copy of it with the credential.
func (x *exchange) send(cred credential) (*http.Response, error) {
	req := x.req
	if cred.header != nil || x.sent {
		req = x.req.WithContext(x.req.Context())
		if cred.header != nil {
			req.Header = maps.Clone(req.Header)
			if req.Header == nil {
				req.Header = make(http.Header)
			}
			req.Header["Authorization"] = cred.header
		}
		if x.sent && x.req.GetBody != nil {
			body, err := x.req.GetBody()
			if err != nil {
				return nil, err
			}
			req.Body = body
		}
	}
	x.sent = true
	resp, err := x.t.base.RoundTrip(req)
	if resp != nil {
		resp.Request = x.req // which has no credentials
	}
	return resp, err
}

func (x *exchange) canSendAgain() bool {
	return x.req.Body == nil || x.req.Body == http.NoBody || x.req.GetBody != nil
}

// learn returns what a response with status 401 offers, and remembers it for the
// next requests to the registry. It drops a token that should have been enough,
// and an account that was refused.
func (x *exchange) learn(resp *http.Response, cred credential) offer {
	o := readOffer(x.req.URL, resp.Header)
	if !o.isZero() {
		x.registry = x.t.addRegistry(x.origin)
		x.registry.setCurrent(o)
	}
	if cred.account != nil {
		x.registry.refuse(cred.account)
	}
	if tok := cred.token; tok != nil {
		if o.bearer == nil || tok.scope.Contains(x.needed(o.bearer)) {
			x.registry.drop(tok)
		}
		if cred.fresh {
			x.refused = append(x.refused, tok.key)
		}
	}
	return o
}

// needed returns what a token must be good for to meet a challenge.
func (x *exchange) needed(b *bearer) Scope { return b.scope.Union(x.required) }

// meet returns a credential that meets an offer and is not the one that was
// refused; one without a header, if there is none.
func (x *exchange) meet(o offer, refused credential) (credential, error) {
	key := x.t.accountOf(targetRepository(x.req, x.required))
	acct, err := x.registry.account(x.req.Context(), key)
	if err != nil {
		return credential{}, err
	}
	x.account = acct
	own := credential{account: acct}
	switch {
	case o.bearer != nil && acct.bearer != nil:
		own.header = acct.bearer
	case o.bearer != nil && (acct.entry.isZero() || x.origin.trusts(o.bearer.realm) || !o.basic):
		return x.fetch(o.bearer, key)
	case o.basic:
		own.header = acct.basic
	}
	if own.header == nil || refused.account == acct {
		return credential{}, nil
	}
	return own, nil
}

// fetch gets a token that meets a challenge: for all that is wanted, or else for
// what the challenge asks for.
func (x *exchange) fetch(b *bearer, account string) (credential, error) {
	needed := x.needed(b)
	if tok := x.registry.cached(needed); tok != nil {
		return credential{header: tok.header, token: tok}, nil
	}
	wanted := needed
	if desired := ScopeFromContext(x.req.Context()); !desired.IsUnlimited() {
		wanted = needed.Union(desired)
	}
	least := b.scope
	if least.IsEmpty() {
		least = x.required
	}
	for _, s := range []Scope{wanted, least} {
		key := tokenKey{b.realm.String(), b.service, s.Canonical().String(), account}
		if slices.Contains(x.refused, key) {
			continue
		}
		tok, err := x.registry.token(x.req.Context(), b, s, key, x.req.UserAgent())
		if err == nil {
			x.refusal = nil
			return credential{header: tok.header, token: tok, fresh: true}, nil
		}
		if !isRefusal(err) {
			return credential{}, err
		}
		x.refused = append(x.refused, key)
		x.refusal = err
	}
	return credential{}, x.refusal
}

// setAside reads what a response has to say, which may still be wanted, so that
// its connection is free for the request of a token.
func setAside(resp *http.Response) {
	const most = 64 << 10 // bytes; the body is an error
	data, _ := io.ReadAll(io.LimitReader(resp.Body, most))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(data))
}
