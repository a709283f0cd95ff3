package ociauth

import (
	"fmt"
	"log/slog"
	"strings"
)

// Config knows the credentials for registries. Its methods must be safe for concurrent
// use. They may block, but must return eventually: they have no context.
type Config interface {
	// EntryForRegistry returns the credentials for the registry at host, which
	// includes the port unless that is the scheme's default. If there are none,
	// it returns the zero ConfigEntry and a nil error.
	EntryForRegistry(host string) (ConfigEntry, error)
}

// RepositoryConfig is a [Config] that can have separate credentials for parts of a
// registry.
type RepositoryConfig interface {
	Config

	// EntryForRepository returns the credentials for a repository, or those for
	// its registry if the repository has none of its own.
	EntryForRepository(host, repo string) (ConfigEntry, error)
}

// ConfigEntry has the credentials for a registry. Any of its fields may be empty.
// Packages fmt and log/slog do not print its secrets, whatever the verb or handler.
type ConfigEntry struct {
	// RefreshToken is an OAuth2 refresh token, which Docker calls an identity
	// token. It is sent to the registry's token server only.
	RefreshToken string

	// AccessToken is a bearer token for the registry itself, which Docker calls
	// a registry token.
	AccessToken string

	// Username and Password are sent to the registry or to its token server.
	Username string
	Password string
}

// String returns the names of the fields that are set, and the username.
func (e ConfigEntry) String() string {
	var parts []string
	if e.Username != "" {
		parts = append(parts, fmt.Sprintf("username %q", e.Username))
	}
	if e.Password != "" {
		parts = append(parts, "password")
	}
	if e.RefreshToken != "" {
		parts = append(parts, "refresh token")
	}
	if e.AccessToken != "" {
		parts = append(parts, "access token")
	}
	if parts == nil {
		return "no credentials"
	}
	return strings.Join(parts, ", ")
}

// Format implements [fmt.Formatter]. It writes the result of String for all verbs.
func (e ConfigEntry) Format(f fmt.State, _ rune) { f.Write([]byte(e.String())) }

// LogValue implements [slog.LogValuer]. It returns the result of String.
func (e ConfigEntry) LogValue() slog.Value { return slog.StringValue(e.String()) }

// isZero reports whether e has no credentials.
func (e ConfigEntry) isZero() bool { return e == ConfigEntry{} }
