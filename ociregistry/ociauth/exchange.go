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
	registry *registry // nil while nothing is known of it
	account  *account  // the last one that was asked for
	sent     bool
	bare     bool  // it was sent without credentials
	asked    offer // the last one that was to be met

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
	return &exchange{t: t, req: req, required: requiredScope(req), registry: t.registry(originOf(req.URL))}
}

// do gets the request answered: with the stored credentials, or else, where that
// is allowed, without them.
func (x *exchange) do() (*http.Response, error) {
	if tok := x.publicToken(); tok != nil {
		resp, err := x.send(credential{header: tok.header, token: tok})
		if err != nil || believed(resp) || passes(resp) {
			return resp, err
		}
		discard(resp)
		x.registry.drop(tok)
	}
	cred, err := x.foresee()
	if err != nil {
		if !x.sent && x.req.Body != nil {
			x.req.Body.Close()
		}
		return nil, err
	}
	resp, cred, err := x.authenticate(cred)
	if x.mayReadWithout(resp, cred, err) {
		return x.readWithout(resp)
	}
	return resp, err
}

// foresee returns the credential that the registry is going to ask for, as far
// as it is known from the Config and from earlier requests.
func (x *exchange) foresee() (credential, error) {
	direct := !crossesOrigins(x.req)
	if x.registry == nil && x.t.config != nil && direct {
		x.registry = x.t.addRegistry(originOf(x.req.URL))
	}
	if x.registry == nil {
		return credential{}, nil
	}
	if tok := x.registry.cached(x.required); tok != nil {
		return credential{header: tok.header, token: tok}, nil
	}
	o := x.registry.current()
	if o.isZero() && direct {
		return x.unasked()
	}
	cred, err := x.meet(o, credential{})
	if isRefusal(err) {
		return credential{}, nil // the registry may ask for less than we thought
	}
	return cred, err
}

// unasked returns what a registry gets that has not asked for anything: an access
// token, over https.
func (x *exchange) unasked() (credential, error) {
	acct, err := x.ask()
	if err != nil || acct.bearer == nil || x.registry.origin.scheme != "https" {
		return credential{}, err
	}
	return credential{header: acct.bearer, account: acct}, nil
}

// ask returns the account that the request is made with.
func (x *exchange) ask() (*account, error) {
	acct, err := x.registry.account(x.req.Context(), x.accountKey())
	if err == nil {
		x.account = acct
	}
	return acct, err
}

func (x *exchange) accountKey() string { return x.t.accountOf(targetRepository(x.req, x.required)) }

// hasStored reports whether the request is made with stored credentials, whether
// or not they were sent.
func (x *exchange) hasStored() bool { return x.account != nil && !x.account.entry.isZero() }

// authenticate sends the request with cred, and then with what the registry asks
// for. It returns the last answer with what it was sent with.
func (x *exchange) authenticate(cred credential) (*http.Response, credential, error) {
	for sends := 1; ; sends++ {
		resp, err := x.send(cred)
		if err != nil {
			return nil, cred, err
		}
		o := x.learn(resp, cred)
		hidden := false // the response does not say what the registry wants
		if len(resp.Header["Www-Authenticate"]) == 0 && x.hides(resp, cred) {
			setAside(resp)
			hidden = true
			if o, err = x.registry.probe(x.req); err != nil {
				return nil, cred, err
			}
		}
		if o.isZero() && cred.header == nil && x.refusal != nil && x.hasStored() {
			resp, err = x.answeredAnyone(resp)
			return resp, cred, err
		}
		if o.isZero() || sends == maxSends || !x.canSendAgain() {
			return resp, cred, nil
		}
		setAside(resp)
		next, err := x.meet(o, cred)
		if err != nil {
			return nil, cred, err
		}
		if next.header == nil {
			switch {
			case x.joins():
			case hidden:
				x.registry.refuseForAWhile(x.account)
			default:
				x.registry.refuse(x.account)
			}
			return resp, cred, nil
		}
		cred = next
	}
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
	x.sent, x.bare = true, x.bare || cred.header == nil
	resp, err := x.t.base.RoundTrip(req)
	if resp != nil {
		resp.Request = x.req // which has no credentials
	}
	return resp, err
}

func (x *exchange) canSendAgain() bool {
	return x.req.Body == nil || x.req.Body == http.NoBody || x.req.GetBody != nil
}

// learn returns what a response that asks for authentication offers, and remembers
// it for the next requests to the registry. It drops a token that should have been
// enough, and an account that was refused.
func (x *exchange) learn(resp *http.Response, cred credential) offer {
	if resp.StatusCode != http.StatusUnauthorized && !x.hides(resp, cred) {
		return offer{}
	}
	o := readOffer(x.req.URL, resp.Header)
	if !o.isZero() {
		x.registry = x.t.addRegistry(originOf(x.req.URL))
		x.registry.setCurrent(o)
	}
	if cred.account != nil && !x.joins() {
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

// joins reports whether the request needs something of other repositories too, as a
// mount does. When such a request is refused, the credentials may be good.
func (x *exchange) joins() bool { return x.own().Len() < x.required.Len() }

// own returns what the request needs, without what it needs of other repositories
// than the one that it is about.
func (x *exchange) own() Scope {
	repo := targetRepository(x.req, x.required)
	var own []ResourceScope
	for r := range x.required.Iter() {
		if r.ResourceType != TypeRepository || r.Resource == repo {
			own = append(own, r)
		}
	}
	return newScope(own)
}

// meet returns a credential that meets an offer and is not the one that was
// refused; one without a header, if there is none.
func (x *exchange) meet(o offer, refused credential) (credential, error) {
	x.asked = o
	acct, err := x.ask()
	if err != nil {
		return credential{}, err
	}
	own := credential{account: acct}
	switch {
	case o.bearer != nil && acct.bearer != nil:
		own.header = acct.bearer
	case o.bearer != nil && (acct.entry.isZero() || x.registry.origin.trusts(o.bearer.realm) || !o.basic):
		return x.fetch(o.bearer)
	case o.basic:
		own.header = acct.basic
	}
	if slices.Equal(own.header, refused.header) {
		return credential{}, nil
	}
	return own, nil
}

// fetch gets a token that meets a challenge: for all that is wanted, or else for
// what the challenge asks for, or else for what the request needs of its own
// repository. With the last a mount is no mount, but it may become an upload.
func (x *exchange) fetch(b *bearer) (credential, error) {
	needed := x.needed(b)
	if tok := x.registry.cached(needed); tok != nil {
		return credential{header: tok.header, token: tok}, nil
	}
	scopes := []Scope{needed, leastScope(b, x.required)}
	if desired := ScopeFromContext(x.req.Context()); !desired.IsUnlimited() {
		scopes[0] = needed.Union(desired)
	}
	if x.joins() {
		scopes = append(scopes, x.own())
	}
	account := x.accountKey()
	var refused []tokenKey // now
	for i, s := range scopes {
		key := newTokenKey(b, s, account)
		if slices.Contains(x.refused, key) || i < len(scopes)-1 && x.registry.wasRefused(key) {
			continue
		}
		tok, err := x.registry.token(x.req.Context(), b, s, key, x.req.UserAgent())
		if err == nil {
			x.registry.refusedInVain(refused)
			x.refusal = nil
			return credential{header: tok.header, token: tok, fresh: true}, nil
		}
		if !isRefusal(err) {
			return credential{}, err
		}
		refused = append(refused, key)
		x.refused = append(x.refused, key)
		x.refusal = err
	}
	return credential{}, x.refusal
}

// leastScope returns what a challenge asks for, or if it does not say, what is
// required.
func leastScope(b *bearer, required Scope) Scope {
	if b.scope.IsEmpty() {
		return required
	}
	return b.scope
}

// setAside reads what a response has to say, which may still be wanted, so that
// its connection is free for the request of a token.
func setAside(resp *http.Response) {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxAside))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(data))
}

// maxAside is how many bytes of a response are read; the body is an error.
const maxAside = 64 << 10

// discard ends a response that is not wanted.
func discard(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxAside)
	resp.Body.Close()
}
