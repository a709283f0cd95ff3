package htpasswd

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/filestate"
	"github.com/seed-40b21970/oci/ociregistry"
)

const (
	lookAge  = time.Second      // after which the file is looked at again
	knownFor = 5 * time.Minute  // for which a password that was right is not hashed again
	maxWait  = 10 * time.Second // of a check for others, before it is refused
)

// Checker checks passwords. It reads its file again when that has changed.
//
// A password costs a bcrypt hash, which is meant to take long. So no more are made at the same
// time than half of the processors can make, and of each user the last right password is
// remembered for some minutes, as a hash with a key that only this Checker knows.
type Checker struct {
	name   string
	logger *slog.Logger
	now    func() time.Time
	key    []byte
	slots  chan struct{} // as many as there may be hashes in the making

	// compare is the method of accounts.
	compare func(a *accounts, user, password string) bool

	mu      sync.Mutex
	current *accounts
	file    filestate.State // that current was read from
	looked  time.Time       // when the file was last looked at
	known   map[string]known
}

// known is a password that was right.
type known struct {
	sum   []byte
	until time.Time
}

// Open returns a Checker for a file. Problems with later versions of the file are logged to
// logger: while it cannot be read, or is wrong, the users are those that it had before.
func Open(name string, logger *slog.Logger) (*Checker, error) {
	c := &Checker{
		name:    name,
		logger:  logger,
		now:     time.Now,
		key:     make([]byte, sha256.Size),
		slots:   make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		compare: (*accounts).compare,
	}
	rand.Read(c.key) // never fails
	return c, c.read()
}

// Check reports whether the password is that of the user. It waits for other checks, and
// returns [ociregistry.ErrTooManyRequests] if that takes too long, or the cause of the end of
// ctx.
func (c *Checker) Check(ctx context.Context, user, password string) (bool, error) {
	sum := c.sum(user, password)
	accounts := c.accounts()
	if c.remembers(accounts, user, sum) {
		return true, nil
	}
	wait, cancel := context.WithTimeoutCause(ctx, maxWait, ociregistry.ErrTooManyRequests)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
	case <-wait.Done():
		return false, context.Cause(wait)
	}
	defer func() { <-c.slots }()
	// The requests that a client makes at the same time wait for the first one's hash.
	if c.remembers(accounts, user, sum) {
		return true, nil
	}
	if !c.compare(accounts, user, password) {
		return false, nil
	}
	c.remember(accounts, user, sum)
	return true, nil
}

// sum returns a hash of a user and a password, which says nothing without the key.
func (c *Checker) sum(user, password string) []byte {
	mac := hmac.New(sha256.New, c.key)
	mac.Write([]byte(user))
	mac.Write([]byte{':'}) // which no user has
	mac.Write([]byte(password))
	return mac.Sum(nil)
}

func (c *Checker) remembers(a *accounts, user string, sum []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.known[user]
	return ok && a == c.current && c.now().Before(k.until) && hmac.Equal(k.sum, sum)
}

// remember remembers a password that was right, unless the file has changed since.
func (c *Checker) remember(a *accounts, user string, sum []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a == c.current {
		c.known[user] = known{sum, c.now().Add(knownFor)}
	}
}

// accounts returns what the file has.
func (c *Checker) accounts() *accounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.looked) >= lookAge {
		c.looked = now
		if !filestate.Look(c.name).Same(c.file) {
			if err := c.read(); err != nil {
				c.logger.Warn("the passwords were not replaced", "error", err)
			}
		}
	}
	return c.current
}

// read reads the file. What is known of passwords is forgotten.
func (c *Checker) read() error {
	file := filestate.Look(c.name)
	a, err := readFile(c.name)
	if err != nil {
		return err
	}
	c.current, c.file, c.known = a, file, make(map[string]known)
	return nil
}
