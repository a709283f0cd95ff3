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

// A source is one file of credentials, or a variable in place of one. The keys of its
// maps are normalized.
type source struct {
	name    string // for error messages
	auths   map[string]choice[authResult]
	helpers map[string]choice[string]
	store   string // the helper for all other registries, or ""
}

// authData is an element of "auths" in a file.
type authData struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// authResult is a decoded element of "auths", or the error of decoding it.
type authResult struct {
	entry ConfigEntry
	err   error
}

// parseSource parses a file. An empty file has no credentials.
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

// trimText returns data without surrounding white space and without a byte order mark,
// which some editors and shells write before UTF-8.
func trimText(data []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
}

// whereWrong returns the offset of an error of package json, as text. The error itself
// could contain a secret.
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

// lookUp returns the credentials in s for a repository, or for the registry if repo is
// empty. The host is normalized.
func (s *source) lookUp(h *helpers, host, repo string) (ConfigEntry, error) {
	for repo != "" {
		if entry, err := s.inFile(host + "/" + repo); err != nil || !entry.isZero() {
			return entry, err
		}
		repo = repo[:max(0, strings.LastIndexByte(repo, '/'))]
	}
	entry, helperErr := s.fromHelper(h, host)
	if !entry.isZero() {
		return entry, nil
	}
	entry, err := s.inFile(host)
	if err == nil && entry.isZero() {
		err = helperErr
	}
	return entry, err
}

// inFile returns the credentials in the file itself for a normalized key.
func (s *source) inFile(key string) (ConfigEntry, error) {
	c := s.auths[key]
	if err := cmp.Or(c.err(), c.value.err); err != nil {
		return ConfigEntry{}, err
	}
	return c.value.entry, nil
}

// fromHelper returns the credentials of the helper for a host, if there is one.
func (s *source) fromHelper(h *helpers, host string) (ConfigEntry, error) {
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

// entry decodes a.
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

// decodeAuth decodes the field "auth", with or without padding.
func decodeAuth(s string) (username, password string, ok bool) {
	s = strings.TrimRight(strings.TrimSpace(s), "=")
	data, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return "", "", false
	}
	username, password, ok = strings.Cut(string(data), ":")
	return username, strings.Trim(password, "\x00"), ok // Docker wrote zeros
}
