package ociauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// source is one file of credentials, or what stands in for one. The keys of its
// maps are normalized.
type source struct {
	name    string // for errors
	auths   map[string]authData
	helpers map[string]helperKey
	store   string // the helper for all other registries, or empty
}

// authData is an element of "auths" in a file.
type authData struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func parseSource(name string, data []byte) (*source, error) {
	var file struct {
		Auths       map[string]authData `json:"auths"`
		CredHelpers map[string]string   `json:"credHelpers"`
		CredsStore  string              `json:"credsStore"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%s is not JSON of the right form%s", name, whereWrong(err))
	}
	s := &source{
		name:    name,
		auths:   make(map[string]authData),
		helpers: make(map[string]helperKey),
		store:   file.CredsStore,
	}
	// Several keys may stand for the same thing: the first that is not empty
	// counts, in an order that does not change from run to run.
	for _, key := range slices.Sorted(maps.Keys(file.Auths)) {
		k := normalizeKey(key)
		if s.auths[k] == (authData{}) {
			s.auths[k] = file.Auths[key]
		}
	}
	for _, key := range slices.Sorted(maps.Keys(file.CredHelpers)) {
		k := normalizeKey(key)
		if s.helpers[k].name == "" {
			s.helpers[k] = helperKey{file.CredHelpers[key], key}
		}
	}
	return s, nil
}

// whereWrong returns where in a file an error of package json is. The error itself
// could repeat a secret.
func whereWrong(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf(" at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Sprintf(" at byte %d", kind.Offset)
	}
	return ""
}

// lookUp returns what s has for a repository, or if that is empty, for a registry.
// The host is normalized.
func (s *source) lookUp(h *helpers, host, repo string) (ConfigEntry, error) {
	for repo != "" {
		if entry, err := s.auths[host+"/"+repo].entry(); err != nil || !entry.isZero() {
			return entry, err
		}
		repo = repo[:max(0, strings.LastIndexByte(repo, '/'))]
	}
	entry, helperErr := s.ask(h, host)
	if !entry.isZero() {
		return entry, nil
	}
	entry, err := s.auths[host].entry()
	if err == nil && entry.isZero() {
		err = helperErr
	}
	return entry, err
}

// ask asks the helper for a host, if there is one.
func (s *source) ask(h *helpers, host string) (ConfigEntry, error) {
	if key := s.helpers[host]; key.name != "" {
		return h.get(key)
	}
	if s.store == "" {
		return ConfigEntry{}, nil
	}
	serverURL := host
	if host == dockerHost {
		serverURL = dockerServerURL
	}
	entry, err := h.get(helperKey{s.store, serverURL})
	if errors.Is(err, ErrHelperNotFound) {
		err = nil
	}
	return entry, err
}

// entry decodes an element.
func (a authData) entry() (ConfigEntry, error) {
	entry := ConfigEntry{
		RefreshToken: a.IdentityToken,
		AccessToken:  a.RegistryToken,
		Username:     a.Username,
		Password:     a.Password,
	}
	if a.Auth == "" {
		return entry, nil
	}
	username, password, ok := decodeAuth(a.Auth)
	if !ok {
		return ConfigEntry{}, errors.New("auth is not the base64 of username:password")
	}
	entry.Username, entry.Password = username, password
	return entry, nil
}

// decodeAuth decodes the field of that name, with padding or without.
func decodeAuth(s string) (username, password string, ok bool) {
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	data, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return "", "", false
	}
	username, password, ok = strings.Cut(string(data), ":")
	return username, strings.Trim(password, "\x00"), ok // Docker has written zeros
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
