package ociauth

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
)

// maxSends bounds how often one request is sent: without credentials, with a token
// that turns out to be revoked, with a token for all that was wanted, with one for
// what the registry asked for, and once more for good measure.
const maxSends = 5

// An exchange is one request of a caller with all that the transport sends for it.
type exchange struct {
	t        *transport
	req      *http.Request
	required Scope
	registry *registry // nil while nothing is known about it
	account  *account  // the last one that the exchange looked up
	sent     bool
	bare     bool  // the request was sent without credentials
	offer    offer // the last one that the exchange tried to meet

	// refused has the keys not to try again: of new tokens that the registry refused,
	// and of tokens that the token server refused. refusal is its last such error.
	refused []tokenKey
	refusal error
}

// A credential authenticates one request.
type credential struct {
	header []string // the Authorization header, or nil for none

	// One of these has the header.
	token   *token
	account *account

	isNew bool // the token was fetched for this request
}

func newExchange(t *transport, req *http.Request) *exchange {
	return &exchange{t: t, req: req, required: requiredScope(req), registry: t.registry(originOf(req.URL))}
}

// do returns the response to the request: with the stored credentials, or else, where
// that is allowed, without them.
func (x *exchange) do() (*http.Response, error) {
	if tok := x.publicToken(); tok != nil {
		resp, err := x.send(credential{header: tok.header, token: tok})
		if err != nil || isBelieved(resp) || isTemporary(resp) {
			return resp, err
		}
		discard(resp)
		x.registry.drop(tok)
	}
	cred, err := x.predict()
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

// predict returns the credential that the registry is going to ask for, as far as that
// is known from the Config and from earlier requests.
func (x *exchange) predict() (credential, error) {
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
	o := x.registry.lastOffer()
	if o.isZero() && direct {
		return x.unchallenged()
	}
	cred, err := x.meet(o, credential{})
	if isRefusal(err) {
		return credential{}, nil // the registry may ask for less than we thought
	}
	return cred, err
}

// unchallenged returns the credential for a registry that has not sent a challenge:
// an access token, if the registry is reached over https.
func (x *exchange) unchallenged() (credential, error) {
	acct, err := x.lookUpAccount()
	if err != nil || acct.bearer == nil || x.registry.origin.scheme != "https" {
		return credential{}, err
	}
	return credential{header: acct.bearer, account: acct}, nil
}

// lookUpAccount returns the account for the request.
func (x *exchange) lookUpAccount() (*account, error) {
	acct, err := x.registry.account(x.req.Context(), x.accountKey())
	if err == nil {
		x.account = acct
	}
	return acct, err
}

func (x *exchange) accountKey() string { return x.t.accountKey(targetRepository(x.req, x.required)) }

// hasStored reports whether there are stored credentials for the request, sent or
// not.
func (x *exchange) hasStored() bool { return x.account != nil && !x.account.entry.isZero() }

// authenticate sends the request with cred, and then with what the registry asks for.
// It returns the last response, and the credential that it answers.
func (x *exchange) authenticate(cred credential) (*http.Response, credential, error) {
	for sends := 1; ; sends++ {
		resp, err := x.send(cred)
		if err != nil {
			return nil, cred, err
		}
		o := x.learn(resp, cred)
		hidden := false // the response has no challenge, but there may be one
		if len(resp.Header["Www-Authenticate"]) == 0 && x.hides(resp, cred) {
			bufferBody(resp)
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
		bufferBody(resp)
		next, err := x.meet(o, cred)
		if err != nil {
			return nil, cred, err
		}
		if next.header == nil {
			switch {
			case x.needsOthers():
			case hidden:
				x.registry.markUseless(x.account)
			default:
				x.registry.markRefused(x.account)
			}
			return resp, cred, nil
		}
		cred = next
	}
}

// send sends the request, or a copy of it that has the credential.
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

// learn returns the offer of a response that asks for authentication, and remembers it
// for later requests to the registry. It drops a token that should have sufficed, and
// marks an account as refused.
func (x *exchange) learn(resp *http.Response, cred credential) offer {
	if resp.StatusCode != http.StatusUnauthorized && !x.hides(resp, cred) {
		return offer{}
	}
	o := readOffer(x.req.URL, resp.Header)
	if !o.isZero() {
		x.registry = x.t.addRegistry(originOf(x.req.URL))
		x.registry.setLastOffer(o)
	}
	if cred.account != nil && !x.needsOthers() {
		x.registry.markRefused(cred.account)
	}
	if tok := cred.token; tok != nil {
		if o.bearer == nil || tok.scope.Contains(x.needed(o.bearer)) {
			x.registry.drop(tok)
		}
		if cred.isNew {
			x.refused = append(x.refused, tok.key)
		}
	}
	return o
}

// needed returns the scope that a token must have to meet a challenge.
func (x *exchange) needed(b *bearer) Scope { return b.scope.Union(x.required) }

// needsOthers reports whether the request also needs access to other repositories, as
// a mount does. The credentials may still be valid when such a request is refused.
func (x *exchange) needsOthers() bool { return x.own().Len() < x.required.Len() }

// own returns the required scope without other repositories than the request's own.
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

// meet returns a credential that meets an offer and is not the refused one. If there is
// none, the credential has no header.
func (x *exchange) meet(o offer, refused credential) (credential, error) {
	x.offer = o
	acct, err := x.lookUpAccount()
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

// fetch gets a token that meets a challenge: for all that is wanted, or else for what
// the challenge asks for, or else for what the request needs of its own repository. The
// last does not suffice for a mount, but the registry may open an upload instead.
func (x *exchange) fetch(b *bearer) (credential, error) {
	needed := x.needed(b)
	if tok := x.registry.cached(needed); tok != nil {
		return credential{header: tok.header, token: tok}, nil
	}
	scopes := []Scope{needed, leastScope(b, x.required)}
	if desired := ScopeFromContext(x.req.Context()); !desired.IsUnlimited() {
		scopes[0] = needed.Union(desired)
	}
	if x.needsOthers() {
		scopes = append(scopes, x.own())
	}
	account := x.accountKey()
	var refused []tokenKey // by this call
	for i, s := range scopes {
		key := newTokenKey(b, s, account)
		if slices.Contains(x.refused, key) || i < len(scopes)-1 && x.registry.isExcess(key) {
			continue
		}
		tok, err := x.registry.token(x.req.Context(), b, s, key, x.req.UserAgent())
		if err == nil {
			x.registry.noteExcess(refused)
			x.refusal = nil
			return credential{header: tok.header, token: tok, isNew: true}, nil
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

// leastScope returns the scope that a challenge asks for, or the required one if it
// names none.
func leastScope(b *bearer, required Scope) Scope {
	if b.scope.IsEmpty() {
		return required
	}
	return b.scope
}

// bufferBody reads the body of a response, which the caller may still want, into
// memory, so that its connection is free for a token request.
func bufferBody(resp *http.Response) {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(data))
}

// maxErrorBody bounds how much of an error response is read, in bytes.
const maxErrorBody = 64 << 10

// discard closes a response that nobody wants, so that its connection can be reused.
func discard(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxErrorBody)
	resp.Body.Close()
}
