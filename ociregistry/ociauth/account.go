package ociauth

import (
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"time"
)

// account is who we are to a registry. It may be nobody.
type account struct {
	entry  ConfigEntry
	basic  []string // the Authorization header that has the username and password, or nil
	bearer []string // the one that has the access token, or nil

	// Those that are guarded by the registry's mu:
	refused bool      // it is to be seen whether there is another
	until   time.Time // but not before this

	mu      sync.Mutex
	refresh string
	warned  bool // that it was refused
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

// basicAuth returns the value of the header (RFC 7617, section 2).
func basicAuth(username, password string) string { return "Basic " + userPass(username, password) }

func userPass(username, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
}

// hasSecretIn reports whether s has any of the account's secrets in it, as they
// are or as they are sent.
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

// setRefreshToken replaces the refresh token by a new one that a token server
// gave: the old one may be good no longer (RFC 6749, section 6).
func (a *account) setRefreshToken(refresh string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refresh = refresh
}

// isFirstWarning reports whether it is called for the first time.
func (a *account) isFirstWarning() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := !a.warned
	a.warned = true
	return first
}

// accountOf returns the key for the account that a repository is used with.
func (t *transport) accountOf(repo string) string {
	if _, ok := t.config.(RepositoryConfig); ok {
		return repo
	}
	return ""
}

// maxAccounts bounds the accounts that are kept for one registry.
const maxAccounts = 1024

// account returns an account of the registry. The Config is asked if it is not
// known, or was refused; as long as that says the same, the account is the same.
func (r *registry) account(ctx context.Context, key string) (*account, error) {
	r.mu.Lock()
	acct := r.accounts[key]
	known := acct != nil && (!acct.refused || time.Now().Before(acct.until))
	r.mu.Unlock()
	if known {
		return acct, nil
	}
	return r.accountCalls.do(ctx, key, func(context.Context) (*account, error) {
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
		r.needless = nil // which others were refused
		return acct, nil
	})
}

// refuse is for an account that was refused: by the next time it may have been
// replaced.
func (r *registry) refuse(acct *account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	acct.refused, acct.until = true, time.Time{}
}

// refuseForAWhile is for an account that is of no use for what the registry wants,
// where it may be that it is not asked for. Many such requests may follow, and to ask
// the Config can be expensive.
func (r *registry) refuseForAWhile(acct *account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	acct.refused, acct.until = true, time.Now().Add(refusalMemory)
}

// accept takes back refuse.
func (r *registry) accept(acct *account) {
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
