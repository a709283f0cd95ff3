package ociauth

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// source is one file of credentials, or what stands in for one. The keys of its
// maps are normalized.
type source struct {
	name    string // for errors
	auths   map[string]choice[authResult]
	helpers map[string]choice[string]
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

// authResult is an element of "auths" decoded.
type authResult struct {
	entry ConfigEntry
	err   error
}

// parseSource parses a file. One without anything in it has no credentials.
func parseSource(name string, data []byte) (*source, error) {
	var file struct {
		Auths       map[string]authData `json:"auths"`
		CredHelpers map[string]string   `json:"credHelpers"`
		CredsStore  string              `json:"credsStore"`
	}
	if data = trimText(data); len(data) > 0 {
		if err := json.Unmarshal(data, &file); err != nil {
			return nil, fmt.Errorf("%s is not JSON of the right form%s", name, whereWrong(err))
		}
	}
	auths := make(map[string]authResult, len(file.Auths))
	for key, data := range file.Auths {
		entry, err := data.entry()
		auths[key] = authResult{entry, err}
	}
	return &source{name, choose(auths), choose(file.CredHelpers), file.CredsStore}, nil
}

// trimText returns data without a byte order mark, which some editors and shells
// write before UTF-8, and without the white space around it.
func trimText(data []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
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
		if entry, err := s.own(host + "/" + repo); err != nil || !entry.isZero() {
			return entry, err
		}
		repo = repo[:max(0, strings.LastIndexByte(repo, '/'))]
	}
	entry, helperErr := s.ask(h, host)
	if !entry.isZero() {
		return entry, nil
	}
	entry, err := s.own(host)
	if err == nil && entry.isZero() {
		err = helperErr
	}
	return entry, err
}

// own returns what the file itself has for a normalized key.
func (s *source) own(key string) (ConfigEntry, error) {
	c := s.auths[key]
	if err := cmp.Or(c.err(), c.value.err); err != nil {
		return ConfigEntry{}, err
	}
	return c.value.entry, nil
}

// ask asks the helper for a host, if there is one.
func (s *source) ask(h *helpers, host string) (ConfigEntry, error) {
	c := s.helpers[host]
	switch {
	case c.err() != nil:
		return ConfigEntry{}, c.err()
	case c.value != "":
		return h.get(helperKey{c.value, c.keys[0]})
	case s.store == "":
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
		return ConfigEntry{}, errAuthForm
	}
	entry.Username, entry.Password = username, password
	return entry, nil
}

var errAuthForm = errors.New("auth is not the base64 of username:password")

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
