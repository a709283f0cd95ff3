// Package uploadid keeps the IDs of upload sessions out of logs: an ID is as good as a
// password for its session.
package uploadid

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Hash returns what logs have in place of an ID. It identifies the records of a session.
func Hash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:4])
}

// minSecret is the minimum length in bytes of an ID that is removed from messages. A
// shorter one is no secret, and could be a part of any word.
const minSecret = 8

// Redact replaces an ID in a message by its hash.
func Redact(msg, id string) string {
	if len(id) < minSecret {
		return msg
	}
	return strings.ReplaceAll(msg, id, Hash(id))
}

// RedactError returns err with an ID in its message replaced by the hash. It is still
// err for [errors.Is] and [errors.As].
func RedactError(err error, id string) error {
	if err == nil {
		return nil
	}
	return &redacted{Redact(err.Error(), id), err}
}

type redacted struct {
	msg string
	err error
}

func (e *redacted) Error() string { return e.msg }
func (e *redacted) Unwrap() error { return e.err }

// RedactQueries returns msg without what looks like the query of a URL, which may have an
// upload id or a signature.
func RedactQueries(msg string) string {
	var b strings.Builder
	for {
		before, query, found := strings.Cut(msg, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		end := strings.IndexAny(query, " \t\r\n\"'`<>")
		if end < 0 {
			end = len(query)
		}
		if strings.Contains(query[:end], "=") {
			b.WriteString("?…")
		} else {
			b.WriteString("?" + query[:end])
		}
		msg = query[end:]
	}
}
