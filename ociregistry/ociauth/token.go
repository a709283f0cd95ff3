package ociauth

import (
	"slices"
	"time"
)

// A token is a bearer token for one registry.
type token struct {
	key     tokenKey
	scope   Scope // that was asked for; the token server may have granted less
	header  []string
	expires time.Time
}

// A tokenKey identifies a token request: where the token comes from, its scope, and
// the credentials that it is asked for with.
type tokenKey struct {
	realm, service string
	scope          string // in canonical form
	account        string // the repository whose credentials they are, or empty
	public         bool   // without credentials: the stored ones were refused
}

func newTokenKey(b *bearer, s Scope, account string) tokenKey {
	return tokenKey{realm: b.realm.String(), service: b.service, scope: s.Canonical().String(), account: account}
}

// maxTokens bounds how many tokens of one registry are cached.
const maxTokens = 128

// tokens has the cached tokens of a registry, most recently used first.
type tokens []*token

// find returns a token that is valid for s, or nil.
func (ts *tokens) find(s Scope, now time.Time) *token {
	for i, tok := range *ts {
		if tok.expires.After(now) && tok.scope.Contains(s) {
			copy((*ts)[1:], (*ts)[:i])
			(*ts)[0] = tok
			return tok
		}
	}
	return nil
}

// add adds a token, and removes those that have expired.
func (ts *tokens) add(tok *token, now time.Time) {
	*ts = slices.DeleteFunc(*ts, func(old *token) bool { return !old.expires.After(now) })
	if len(*ts) >= maxTokens {
		*ts = slices.Delete(*ts, maxTokens-1, len(*ts))
	}
	*ts = slices.Insert(*ts, 0, tok)
}

// drop removes a token, if it is still there.
func (ts *tokens) drop(tok *token) {
	*ts = slices.DeleteFunc(*ts, func(t *token) bool { return t == tok })
}
