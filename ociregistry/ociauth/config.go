package ociauth

import (
	"fmt"
	"log/slog"
	"strings"
)

// Config knows the credentials for registries. Its methods are called from many
// goroutines at once, and may block, but not for ever: they are given no context.
type Config interface {
	// EntryForRegistry returns the credentials for a registry, which is given
	// by its host, with the port if that is not the scheme's own. If there are
	// none, it returns the zero ConfigEntry and no error.
	EntryForRegistry(host string) (ConfigEntry, error)
}

// RepositoryConfig is a [Config] that can have other credentials for parts of a
// registry.
type RepositoryConfig interface {
	Config

	// EntryForRepository returns the credentials for a repository; those for
	// its registry, if it has no others.
	EntryForRepository(host, repo string) (ConfigEntry, error)
}

// ConfigEntry has the credentials for a registry: some of its fields, or none.
// Printed or logged, in any way that package fmt or log/slog has, it shows no
// secrets.
type ConfigEntry struct {
	// RefreshToken is an OAuth2 refresh token: what Docker calls an identity
	// token. It is sent to the registry's token server alone.
	RefreshToken string

	// AccessToken is a bearer token that the registry itself takes: what
	// Docker calls a registry token.
	AccessToken string

	// Username and Password are sent to the registry, or to its token server.
	Username string
	Password string
}

// String names the fields that are set, and shows the username.
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

// Format writes what String returns, whatever the verb.
func (e ConfigEntry) Format(f fmt.State, _ rune) { f.Write([]byte(e.String())) }

// LogValue returns what String does.
func (e ConfigEntry) LogValue() slog.Value { return slog.StringValue(e.String()) }

// isZero reports whether e has no credentials.
func (e ConfigEntry) isZero() bool { return e == ConfigEntry{} }
