package ociauth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// choice is the value for a registry, or a part of one, of those that the keys of
// a file give it.
type choice[T comparable] struct {
	value T
	keys  []string // the first has the value; the others have different ones
}

// choose returns the choices by normalized key. Values that are zero are none.
//
// The key that is the host itself goes first. The next are the host in capitals or
// with a slash, https://host/v1/, https://host/v2/, and last all other ways to write it.
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
		case !found || keyOrder(key, name) < keyOrder(c.keys[0], name):
			chosen[name] = choice[T]{value, []string{key}}
		case keyOrder(key, name) == keyOrder(c.keys[0], name) && value != c.value:
			c.keys = append(c.keys, key)
			chosen[name] = c
		}
	}
	return chosen
}

// err returns an error if no key goes before the others.
func (c choice[T]) err() error {
	if len(c.keys) < 2 {
		return nil
	}
	return fmt.Errorf("the keys %q stand for the same and have different credentials", c.keys)
}

// keyOrder returns the place of a key among those for a name. The lowest goes first.
func keyOrder(key, name string) int {
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

// isSessionKey reports whether a key is one of those under which Docker's login
// with a browser keeps its own tokens, https://index.docker.io/v1/access-token. They
// are no credentials for the registry.
func isSessionKey(key string) bool {
	return strings.HasSuffix(key, "/access-token") || strings.HasSuffix(key, "/refresh-token")
}

const (
	dockerHost      = "docker.io"
	dockerServerURL = "https://index.docker.io/v1/" // Docker's own key for it
)

// normalizeKey returns the host, or host/path, that a key of a file stands for:
// without the scheme, and without the paths of the registry protocols, which old
// versions of docker login have written.
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

// normalizeHost returns the one name of a host that has several.
func normalizeHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ":443")
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return dockerHost
	}
	return host
}
