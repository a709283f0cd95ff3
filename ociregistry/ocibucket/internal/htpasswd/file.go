// Package htpasswd checks passwords against a file that htpasswd -B writes: a line of each
// user, with a name, a colon and a bcrypt hash.
package htpasswd

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// accounts are what a file has.
type accounts struct {
	hashes map[string][]byte // by user

	// decoy is the hash that takes the longest of them. The password of a user that does not
	// exist is compared with it, so that the time of an answer does not tell who exists: if
	// all have the same cost, as those that htpasswd makes, all take the same time.
	decoy []byte
}

// readFile reads accounts. No error has anything of a line.
func readFile(name string) (*accounts, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	a := &accounts{hashes: make(map[string][]byte)}
	highest := 0
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(text, ":")
		if !ok || user == "" {
			return nil, fmt.Errorf("%s: line %d is not a user and a hash", name, number)
		}
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil {
			return nil, fmt.Errorf("%s: line %d has no bcrypt hash, as htpasswd -B makes it", name, number)
		}
		if _, twice := a.hashes[user]; twice {
			return nil, fmt.Errorf("%s: line %d is of a user that a line above is of", name, number)
		}
		a.hashes[user] = []byte(hash)
		if cost > highest {
			a.decoy, highest = []byte(hash), cost
		}
	}
	return a, nil
}

// compare reports whether a password is that of a user. It takes long, for a user that does
// not exist, too.
func (a *accounts) compare(user, password string) bool {
	hash, known := a.hashes[user]
	if !known {
		hash = a.decoy
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && known
}
