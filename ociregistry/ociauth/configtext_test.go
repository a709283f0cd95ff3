package ociauth_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

const byteOrderMark = "\ufeff"

// The sources of credentials, each with a function that writes one.
var places = map[string]func(h *home, content string){
	"config.json":         func(h *home, content string) { h.write(".docker/config.json", content) },
	"auth.json":           func(h *home, content string) { h.write("run/containers/auth.json", content) },
	"auth.json at home":   func(h *home, content string) { h.write(".config/containers/auth.json", content) },
	"$DOCKER_AUTH_CONFIG": func(h *home, content string) { h.setenv("DOCKER_AUTH_CONFIG", content) },
	"$REGISTRY_AUTH_FILE": func(h *home, content string) {
		h.write("own.json", content)
		h.setenv("REGISTRY_AUTH_FILE", h.path("own.json"))
	},
}

func TestLoadTakesEmptyFilesForNone(t *testing.T) {
	t.Parallel()
	for place, write := range places {
		for _, content := range []string{"", " ", "\n", " \t\r\n\n", byteOrderMark, byteOrderMark + "\r\n"} {
			h := newHome(t)
			write(h, content)
			h.write("next/config.json", auths("registry.test", "next"))
			if place != "config.json" {
				h.setenv("DOCKER_CONFIG", h.path("next"))
			}
			entry, err := h.load(nil).EntryForRegistry("registry.test")
			qt.Check(t, qt.IsNil(err))
			// Later sources are still used.
			qt.Check(t, qt.Equals(entry.Username == "next", place != "config.json"), qt.Commentf("%s: %q", place, content))
		}
	}
}

func TestLoadSkipsByteOrderMark(t *testing.T) {
	t.Parallel()
	for place, write := range places {
		h := newHome(t)
		write(h, byteOrderMark+auths("registry.test", "user")+"\r\n")
		entry, err := h.load(nil).EntryForRegistry("registry.test")
		qt.Check(t, qt.IsNil(err), qt.Commentf(place))
		qt.Check(t, qt.Equals(entry.Username, "user"), qt.Commentf(place))
	}
}

// A file in another encoding than UTF-8 is an error that names the file.
func TestLoadRefusesOtherEncodings(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"\xff\xfe{\x00}\x00", "\x00", byteOrderMark + byteOrderMark + "{}", "{}" + byteOrderMark} {
		h := newHome(t)
		h.write(".docker/config.json", content)
		_, err := ociauth.LoadWithEnv(nil, h.env)
		qt.Check(t, qt.ErrorMatches(err, `credentials: .*config\.json is not JSON of the right form at byte \d+`), qt.Commentf("%q", content))
	}
}

// A file that exists and cannot be read may have credentials. A dangling link is as good
// as no file.
func TestLoadRefusesUnreadableFiles(t *testing.T) {
	t.Parallel()
	for place, name := range map[string]string{"config.json": ".docker/config.json", "auth.json": "run/containers/auth.json"} {
		for target, want := range map[string]string{name: place, "absent.json": ""} {
			h := newHome(t)
			h.write(filepath.Join(filepath.Dir(name), "other"), "")
			if err := os.Symlink(h.path(target), h.path(name)); err != nil {
				t.Logf("no links here: %v", err) // TestLoadErrorsShowNoContent has a directory instead
				return
			}
			_, err := ociauth.LoadWithEnv(nil, h.env)
			if want == "" {
				qt.Check(t, qt.IsNil(err))
			} else {
				qt.Check(t, qt.ErrorMatches(err, "credentials: .*"+regexp.QuoteMeta(want)+": .*"))
			}
		}
	}
}

func TestExactKeyGoesFirst(t *testing.T) {
	t.Parallel()
	tests := []struct {
		host, repo string
		keys       []string // the first is the one to use
	}{
		{"quay.io", "", []string{"quay.io", "https://quay.io/v1/"}},
		{"quay.io", "a/b", []string{"quay.io", "https://quay.io/v1/", "https://quay.io/v2/", "http://quay.io", "quay.io/v2"}},
		{"quay.io", "", []string{"https://quay.io/v1/", "https://quay.io/v2/", "https://quay.io", "quay.io:443", "http://quay.io/v1/"}},
		{"quay.io", "", []string{"https://quay.io/v1", "https://quay.io/v2/"}},
		{"quay.io", "", []string{"https://quay.io/v2/", "https://quay.io/", "http://quay.io/v2/"}},
		{"Quay.io", "", []string{"quay.io", "http://quay.io"}},
		{"localhost:5000", "", []string{"localhost:5000", "http://localhost:5000", "https://localhost:5000/v1/"}},
		{"docker.io", "", []string{"docker.io", "https://index.docker.io/v1/", "index.docker.io"}},
		{"registry-1.docker.io", "library/alpine", []string{"https://index.docker.io/v1/", "https://index.docker.io/v2/", "registry-1.docker.io", "index.docker.io"}},
		{"quay.io", "team/app", []string{"quay.io/team", "https://quay.io/team", "http://quay.io/team/"}},
		{"quay.io", "", []string{"quay.io", "QUAY.IO", "quay.io/", "quay.io:443"}},
		{"Quay.io", "", []string{"quay.io/", "https://quay.io/v1/", "https://quay.io"}},
	}
	for _, test := range tests {
		var users []string
		for i, key := range test.keys {
			users = append(users, key, []string{"right", "wrong1", "wrong2", "wrong3", "wrong4"}[i])
		}
		for range 5 { // not by chance
			h := newHome(t)
			h.setenv("DOCKER_AUTH_CONFIG", auths(users...))
			entry, err := h.load(nil).EntryForRepository(test.host, test.repo)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(entry.Username, "right"), qt.Commentf("%s/%s: %q", test.host, test.repo, test.keys))
		}
	}
}

func TestContradictingKeysAreAnErrorOfTheirHost(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.setenv("DOCKER_AUTH_CONFIG", auths(
		"https://quay.io", "one",
		"http://quay.io/", "two",
		"http://same.test", "same",
		"https://same.test", "same",
		"https://path.test/team", "one",
		"http://path.test/team", "two",
		"path.test", "all",
		"other.test", "other",
	))
	c := h.load(nil)
	const contradiction = `credentials for %s from \$DOCKER_AUTH_CONFIG: the keys \["http://%s" "https://%s"\] stand for the same and have different credentials`
	wantError := func(host, repo, first, second string) {
		t.Helper()
		entry, err := c.EntryForRepository(host, repo)
		qt.Check(t, qt.Equals(entry, ociauth.ConfigEntry{}))
		qt.Check(t, qt.ErrorMatches(err, strings.NewReplacer("for %s", "for "+host, "http://%s", "http://"+first, "https://%s", "https://"+second).Replace(contradiction)))
	}
	wantError("quay.io", "", "quay.io/", "quay.io")
	wantError("quay.io", "a/b", "quay.io/", "quay.io")
	wantError("path.test", "team/app", "path.test/team", "path.test/team")
	for _, test := range []struct{ host, repo, want string }{
		{"same.test", "", "same"},
		{"other.test", "", "other"},
		{"path.test", "", "all"},
		{"path.test", "x", "all"},
	} {
		entry, err := c.EntryForRepository(test.host, test.repo)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(entry.Username, test.want), qt.Commentf("%s/%s", test.host, test.repo))
	}
}

// The same credentials may be written in several ways.
func TestKeysThatAgreeAreNoContradiction(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.setenv("DOCKER_AUTH_CONFIG", `{"auths":{
		"http://registry.test": {"auth":"`+encode("user:pass")+`"},
		"https://registry.test": {"username":"user","password":"pass","email":"e"},
		"https://registry.test/": {}
	}}`)
	entry, err := h.load(nil).EntryForRegistry("registry.test")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(entry, ociauth.ConfigEntry{Username: "user", Password: "pass"}))
}

// Docker's browser login keeps its own tokens beside the credentials.
func TestSessionTokensAreNoCredentials(t *testing.T) {
	t.Parallel()
	for _, repo := range []string{"", "v1/access-token", "v1/refresh-token/x"} {
		h := newHome(t)
		h.setenv("DOCKER_AUTH_CONFIG", auths(
			"https://index.docker.io/v1/", "user",
			"https://index.docker.io/v1/access-token", "access",
			"https://index.docker.io/v1/refresh-token", "refresh",
			"docker.io/access-token", "access",
		))
		entry, err := h.load(nil).EntryForRepository("docker.io", repo)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(entry.Username, "user"), qt.Commentf(repo))
	}
}

// Keys of credHelpers have the same precedence as keys of auths.
func TestHelperOfTheExactKeyGoesFirst(t *testing.T) {
	t.Parallel()
	runner := func(name, serverURL string) (ociauth.ConfigEntry, error) {
		return ociauth.ConfigEntry{Username: name, Password: serverURL}, nil
	}
	tests := []struct{ helpers, user, url, err string }{
		{`"https://quay.io/v1/":"old","quay.io":"new"`, "new", "quay.io", ""},
		{`"https://quay.io/v2/":"new","https://quay.io/v1/":"old"`, "old", "https://quay.io/v1/", ""},
		{`"https://quay.io":"same","http://quay.io":"same"`, "same", "http://quay.io", ""},
		{`"https://quay.io":"one","http://quay.io":"two"`, "", "", `credentials for quay\.io from .*: the keys \["http://quay\.io" "https://quay\.io"\] stand for the same and have different credentials`},
	}
	for _, test := range tests {
		h := newHome(t)
		h.setenv("DOCKER_AUTH_CONFIG", `{"credHelpers":{`+test.helpers+`}}`)
		entry, err := h.load(runner).EntryForRegistry("quay.io")
		if test.err != "" {
			qt.Check(t, qt.ErrorMatches(err, test.err))
			continue
		}
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(entry, ociauth.ConfigEntry{Username: test.user, Password: test.url}), qt.Commentf(test.helpers))
	}
}
