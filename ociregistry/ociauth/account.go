package ociauth

import (
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"time"
)

// An account is an identity at a registry, possibly the anonymous one.
type account struct {
	entry  ConfigEntry
	basic  []string // the Authorization header with the username and password, or nil
	bearer []string // the one with the access token, or nil

	// The registry's mu guards these.
	refused bool      // ask the Config whether there is another
	until   time.Time // but not before this time

	mu      sync.Mutex
	refresh string
	warned  bool // that the account was refused
}

func newAccount(entry ConfigEntry) *account {
	a := &account{entry: entry, refresh: entry.RefreshToken}
	if entry.AccessToken != "" {
		a.bearer = []string{"Bearer " + entry.AccessToken}
	}
	if entry.Password != "" || entry.Username != "" && entry.RefreshToken == "" {
		a.basic = []string{basicAuth(entry.Username, entry.Password)}
	}
	return a
}

// basicAuth returns the value of an Authorization header (RFC 7617, section 2).
func basicAuth(username, password string) string { return "Basic " + userPass(username, password) }

func userPass(username, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
}

// hasSecretIn reports whether s contains any of the account's secrets, plain or as
// they are sent.
func (a *account) hasSecretIn(s string) bool {
	refresh := a.refreshToken()
	for _, secret := range []string{a.entry.Password, a.entry.AccessToken, a.entry.RefreshToken, refresh} {
		if secret != "" && (strings.Contains(s, secret) || strings.Contains(s, userPass(a.entry.Username, secret))) {
			return true
		}
	}
	return false
}

func (a *account) refreshToken() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refresh
}

// setRefreshToken replaces the refresh token by a new one from a token server: the old
// one may no longer be valid (RFC 6749, section 6).
func (a *account) setRefreshToken(refresh string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refresh = refresh
}

// isFirstWarning reports whether this is its first call.
func (a *account) isFirstWarning() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := !a.warned
	a.warned = true
	return first
}

// accountKey returns the key of the account for a repository.
func (t *transport) accountKey(repo string) string {
	if _, ok := t.config.(RepositoryConfig); ok {
		return repo
	}
	return ""
}

// maxAccounts bounds how many accounts of one registry are cached.
const maxAccounts = 1024

// account returns an account of the registry. It asks the Config if the account is not
// cached or was refused. While the Config returns the same entry, the account stays the
// same.
func (r *registry) account(ctx context.Context, key string) (*account, error) {
	r.mu.Lock()
	acct := r.accounts[key]
	usable := acct != nil && (!acct.refused || time.Now().Before(acct.until))
	r.mu.Unlock()
	if usable {
		return acct, nil
	}
	return r.accountCalls.Do(ctx, key, func(context.Context) (*account, error) {
		entry, err := r.t.entry(r.origin.host, key)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if acct := r.accounts[key]; acct != nil && acct.entry == entry {
			acct.refused = false
			return acct, nil
		}
		if len(r.accounts) >= maxAccounts {
			clear(r.accounts)
		}
		acct := newAccount(entry)
		r.accounts[key] = acct
		r.excess = nil // another account was refused
		return acct, nil
	})
}

// markRefused notes that an account was refused, so that the Config is asked again: it
// may have been replaced by then.
func (r *registry) markRefused(acct *account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	acct.refused, acct.until = true, time.Time{}
}

// markUseless notes that an account cannot meet what the registry wants, if it wants
// anything. The Config is not asked again for refusalMemory: many such requests may
// follow, and asking can be expensive.
func (r *registry) markUseless(acct *account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	acct.refused, acct.until = true, time.Now().Add(refusalMemory)
}

// unmarkRefused undoes markRefused.
func (r *registry) unmarkRefused(acct *account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	acct.refused = false
}

func (t *transport) entry(host, repo string) (ConfigEntry, error) {
	switch c := t.config.(type) {
	case nil:
		return ConfigEntry{}, nil
	case RepositoryConfig:
		return c.EntryForRepository(host, repo)
	default:
		return c.EntryForRegistry(host)
	}
}
