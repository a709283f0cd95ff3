package htpasswd

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/crypto/bcrypt"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/ociregistry"
)

// line returns a line of a file, as htpasswd -B writes it but for the cost.
func line(t testing.TB, user, password string, cost int) string {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	qt.Assert(t, qt.IsNil(err))
	return user + ":" + strings.Replace(string(hash), "$2a$", "$2y$", 1) + "\n"
}

// writes counts the files that were written.
var writes atomic.Int64

// write writes a file. Each is younger than those before, although a system may count time in ticks, and use an inode
// again, so that a file looks like one that was removed.
func write(t testing.TB, name string, lines ...string) {
	t.Helper()
	tmp := name + ".new"
	qt.Assert(t, qt.IsNil(os.WriteFile(tmp, []byte(strings.Join(lines, "")), 0o600)))
	qt.Assert(t, qt.IsNil(os.Chtimes(tmp, time.Time{}, time.Unix(1_800_000_000+writes.Add(1), 0))))
	qt.Assert(t, qt.IsNil(os.Rename(tmp, name)))
}

// open opens a file of lines. Of the Checker, calls counts the hashes that are made.
func open(t testing.TB, lines ...string) (c *Checker, name string, calls *atomic.Int32) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "users")
	write(t, name, lines...)
	c, err := Open(name, slog.New(slog.DiscardHandler))
	qt.Assert(t, qt.IsNil(err))
	calls = new(atomic.Int32)
	compare := c.compare
	c.compare = func(a *accounts, user, password string) bool {
		calls.Add(1)
		return compare(a, user, password)
	}
	return c, name, calls
}

func TestChecker_KnowsUsers(t *testing.T) {
	t.Parallel()
	const written = "bob:$2y$05$8VjhyUMVK3nlp/9lgse4wemPs2wkgxzzqiQJlX8ViqWeSke7b94eC\r\n"
	c, _, calls := open(t, "# users\n\n", line(t, "ali", "open:sesame", bcrypt.MinCost), written)
	for _, test := range []struct {
		user, password string
		want           bool
	}{
		{"ali", "open:sesame", true},
		{"ali", "open", false},
		{"ali", "", false},
		{"bob", "swordfish", true},
		{"bob", "open:sesame", false},
		{"nobody", "swordfish", false}, // bob's is the decoy
		{"", "", false},
		{"ali:open", "sesame", false},
	} {
		before := calls.Load()
		got, err := c.Check(t.Context(), test.user, test.password)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got, test.want), qt.Commentf("%+v", test))
		qt.Check(t, qt.Equals(calls.Load(), before+1), qt.Commentf("%+v", test))
	}
}

func TestChecker_ComparesWithTheHighestCostForNobody(t *testing.T) {
	t.Parallel()
	high := line(t, "b", "y", bcrypt.MinCost+1)
	c, _, _ := open(t, line(t, "a", "x", bcrypt.MinCost), high, line(t, "c", "z", bcrypt.MinCost))
	qt.Check(t, qt.Equals("b:"+string(c.current.decoy)+"\n", high))
}

func TestChecker_RefusesFilesThatAreWrong(t *testing.T) {
	t.Parallel()
	const secret = "secret"
	for _, test := range []struct{ text, want string }{
		{secret + "\n", "line 1 is not a user and a hash"},
		{"\n:" + secret, "line 2 is not a user and a hash"},
		{"ali:" + secret, "line 1 has no bcrypt hash, as htpasswd -B makes it"},
		{"ali:$apr1$" + secret, "line 1 has no bcrypt hash"},
		{line(t, "ali", "x", bcrypt.MinCost) + line(t, "ali", "y", bcrypt.MinCost), "line 2 is of a user that a line above is of"},
	} {
		name := filepath.Join(t.TempDir(), "users")
		write(t, name, test.text)
		_, err := Open(name, nil)
		qt.Assert(t, qt.IsNotNil(err), qt.Commentf(test.text))
		qt.Check(t, qt.StringContains(err.Error(), test.want))
		qt.Check(t, qt.Not(qt.StringContains(err.Error(), secret)))
	}
	_, err := Open(filepath.Join(t.TempDir(), "none"), nil)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}

func TestChecker_RemembersWhatWasRightForAWhile(t *testing.T) {
	t.Parallel()
	c, name, calls := open(t, line(t, "ali", "x", bcrypt.MinCost))
	now := time.Now()
	c.now = func() time.Time { return now }
	check := func(password string, want bool, hashes int32) {
		t.Helper()
		before := calls.Load()
		got, err := c.Check(t.Context(), "ali", password)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got, want))
		qt.Check(t, qt.Equals(calls.Load()-before, hashes))
	}
	check("x", true, 1)
	check("x", true, 0)
	check("y", false, 1)
	check("y", false, 1)
	now = now.Add(knownFor - 1)
	check("x", true, 0)
	now = now.Add(1)
	check("x", true, 1)
	check("x", true, 0)
	write(t, name, line(t, "ali", "y", bcrypt.MinCost))
	check("x", true, 0) // the file is looked at each second
	now = now.Add(lookAge)
	check("x", false, 1)
	check("y", true, 1)
}

func TestChecker_KeepsUsersWhileTheFileIsWrong(t *testing.T) {
	t.Parallel()
	c, name, _ := open(t, line(t, "ali", "x", bcrypt.MinCost))
	log := new(locked.Buffer)
	c.logger = slog.New(slog.NewTextHandler(log, nil))
	now := time.Now()
	c.now = func() time.Time { return now }
	check := func(user string, want bool) {
		t.Helper()
		now = now.Add(lookAge)
		got, err := c.Check(t.Context(), user, "x")
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got, want))
	}
	write(t, name, "wrong")
	check("ali", true)
	qt.Check(t, qt.StringContains(log.String(), "the passwords were not replaced"))
	qt.Assert(t, qt.IsNil(os.Remove(name)))
	check("ali", true)
	write(t, name, line(t, "bob", "x", bcrypt.MinCost))
	check("ali", false)
	check("bob", true)
	write(t, name)
	check("bob", false)
}

// TestChecker_BoundsItsWork has more clients than there are slots. The hashes take longer than
// clients wait.
func TestChecker_BoundsItsWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := open(t, line(t, "ali", "x", bcrypt.MinCost))
		var running atomic.Int32
		c.compare = func(*accounts, string, string) bool {
			qt.Check(t, qt.IsTrue(int(running.Add(1)) <= cap(c.slots)))
			time.Sleep(maxWait + time.Second)
			running.Add(-1)
			return false
		}
		var refused atomic.Int32
		var clients sync.WaitGroup
		for range cap(c.slots) + 3 {
			clients.Go(func() {
				ok, err := c.Check(t.Context(), "ali", "y")
				qt.Check(t, qt.IsFalse(ok))
				if err != nil {
					qt.Check(t, qt.ErrorIs(err, ociregistry.ErrTooManyRequests))
					refused.Add(1)
				}
			})
		}
		synctest.Wait()
		gone, leave := context.WithCancel(t.Context())
		leave()
		_, err := c.Check(gone, "ali", "y")
		qt.Check(t, qt.ErrorIs(err, context.Canceled))
		clients.Wait()
		qt.Check(t, qt.Equals(refused.Load(), 3))
	})
}

// TestChecker_HashesOnceForRequestsAtTheSameTime has a client whose requests come while the hash
// of the first is made.
func TestChecker_HashesOnceForRequestsAtTheSameTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := open(t, line(t, "ali", "x", bcrypt.MinCost))
		c.slots = make(chan struct{}, 1)
		var calls atomic.Int32
		c.compare = func(*accounts, string, string) bool {
			calls.Add(1)
			time.Sleep(time.Second)
			return true
		}
		var requests sync.WaitGroup
		for range 20 {
			requests.Go(func() {
				ok, err := c.Check(t.Context(), "ali", "x")
				qt.Check(t, qt.IsTrue(ok && err == nil))
			})
		}
		requests.Wait()
		qt.Check(t, qt.Equals(calls.Load(), 1))
	})
}
