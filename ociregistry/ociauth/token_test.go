package ociauth

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func TestTokensAreFoundByScopeAndBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	scope := func(s string) Scope { return ParseScope(s) }
	tok := func(s string, lives time.Duration) *token { return &token{scope: scope(s), expires: now.Add(lives)} }
	var ts tokens
	foo, bar := tok("repository:foo:pull", time.Minute), tok("repository:bar:pull", time.Minute)
	ts.add(foo, now)
	ts.add(bar, now)
	qt.Check(t, qt.Equals(ts.find(scope("repository:foo:pull"), now), foo))
	qt.Check(t, qt.Equals(ts[0], foo)) // most recently used first
	qt.Check(t, qt.Equals(ts.find(Scope{}, now), foo))
	qt.Check(t, qt.IsNil(ts.find(scope("repository:foo:push"), now)))
	qt.Check(t, qt.IsNil(ts.find(UnlimitedScope(), now)))
	qt.Check(t, qt.IsNil(ts.find(scope("repository:foo:pull"), now.Add(time.Minute))))

	// A new token is found first. Without it, the others are found again.
	both := tok("repository:foo:pull,push repository:bar:pull", time.Hour)
	ts.add(both, now)
	qt.Check(t, qt.Equals(ts.find(scope("repository:bar:pull"), now), both))
	ts.drop(both)
	ts.drop(both)
	qt.Check(t, qt.Equals(ts.find(scope("repository:bar:pull"), now), bar))

	// Expired tokens are removed, and so is the least recently used one.
	ts.add(both, now.Add(time.Minute))
	qt.Check(t, qt.HasLen(ts, 1))
	ts.drop(both)
	for i := range maxTokens + 10 {
		ts.add(tok(fmt.Sprintf("repository:r%d:pull", i), time.Minute), now)
		qt.Check(t, qt.IsNotNil(ts.find(scope("repository:r0:pull"), now)))
	}
	qt.Check(t, qt.HasLen(ts, maxTokens))
	qt.Check(t, qt.IsNil(ts.find(scope("repository:r1:pull"), now)))
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	tr := NewStdTransport(StdTransportParams{Config: perRepository{}}).(*transport)
	for i := range maxRegistries + 10 {
		tr.addRegistry(origin{"https", fmt.Sprintf("r%d.test", i)})
	}
	qt.Check(t, qt.HasLen(tr.registries, maxRegistries))
	r := tr.addRegistry(origin{"https", "registry.test"})
	for i := range maxAccounts + 10 {
		acct, err := r.account(t.Context(), fmt.Sprintf("repo%d", i))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(acct.entry.Username, fmt.Sprintf("repo%d", i)))
	}
	qt.Check(t, qt.IsTrue(len(r.accounts) <= maxAccounts))
}

type perRepository struct{}

func (perRepository) EntryForRegistry(host string) (ConfigEntry, error) { return ConfigEntry{}, nil }
func (perRepository) EntryForRepository(host, repo string) (ConfigEntry, error) {
	return ConfigEntry{Username: repo}, nil
}
