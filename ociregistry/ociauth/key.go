package ociauth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A choice is the value for a registry, or a part of one, among the values that a file
// has for it under different keys.
type choice[T comparable] struct {
	value T
	keys  []string // the first has the value; the others, of equal rank, have different ones
}

// choose returns the choices by normalized key. It ignores zero values.
//
// The key that is the host itself takes precedence, followed by the host in capitals or
// with a slash, https://host/v1/, https://host/v2/, and all other ways to write it.
func choose[T comparable](values map[string]T) map[string]choice[T] {
	var zero T
	chosen := make(map[string]choice[T])
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value := values[key]
		if value == zero || isSessionKey(key) {
			continue
		}
		name := normalizeKey(key)
		c, found := chosen[name]
		switch {
		case !found || keyRank(key, name) < keyRank(c.keys[0], name):
			chosen[name] = choice[T]{value, []string{key}}
		case keyRank(key, name) == keyRank(c.keys[0], name) && value != c.value:
			c.keys = append(c.keys, key)
			chosen[name] = c
		}
	}
	return chosen
}

// err returns an error if no key takes precedence over the others.
func (c choice[T]) err() error {
	if len(c.keys) < 2 {
		return nil
	}
	return fmt.Errorf("the keys %q stand for the same and have different credentials", c.keys)
}

// keyRank ranks a key among those for a name. The lowest rank takes precedence.
func keyRank(key, name string) int {
	if key == name {
		return 0
	}
	url := "https://" + name
	if name == dockerHost {
		url = strings.TrimSuffix(dockerServerURL, "/v1/")
	}
	switch strings.TrimSuffix(strings.ToLower(key), "/") {
	case name:
		return 1
	case url + "/v1":
		return 2
	case url + "/v2":
		return 3
	}
	return 4
}

// isSessionKey reports whether Docker's browser login keeps its own tokens under a key,
// such as https://index.docker.io/v1/access-token. These are not credentials for the
// registry.
func isSessionKey(key string) bool {
	return strings.HasSuffix(key, "/access-token") || strings.HasSuffix(key, "/refresh-token")
}

const (
	dockerHost      = "docker.io"
	dockerServerURL = "https://index.docker.io/v1/" // Docker's own key for dockerHost
)

// normalizeKey returns the host, or host/path, that a key of a file stands for. It
// removes the scheme, and the paths of the registry protocols, which old versions of
// docker login wrote.
func normalizeKey(key string) string {
	if _, after, ok := strings.Cut(key, "://"); ok {
		key = after
	}
	host, path, _ := strings.Cut(key, "/")
	host = normalizeHost(host)
	switch path = strings.Trim(path, "/"); path {
	case "", "v1", "v2":
		return host
	}
	return host + "/" + path
}

// normalizeHost returns the canonical name of a host.
func normalizeHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ":443")
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return dockerHost
	}
	return host
}
