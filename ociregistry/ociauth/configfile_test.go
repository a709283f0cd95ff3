package ociauth_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry/ociauth"
)

// encode returns the field auth.
func encode(userpass string) string { return base64.StdEncoding.EncodeToString([]byte(userpass)) }

// auths returns a file that has one user for each of the keys.
func auths(keysAndUsers ...string) string {
	var parts []string
	for i := 0; i < len(keysAndUsers); i += 2 {
		parts = append(parts, fmt.Sprintf("%q:{\"auth\":%q}", keysAndUsers[i], encode(keysAndUsers[i+1]+":pass")))
	}
	return `{"auths":{` + strings.Join(parts, ",") + `}}`
}

// home is a directory with files of credentials, and an environment in which Load
// finds them.
type home struct {
	t   testing.TB
	dir string
	env []string
}

func newHome(t testing.TB) *home {
	dir := t.TempDir()
	return &home{t, dir, []string{
		"HOME=" + dir,
		"USERPROFILE=" + dir,
		"XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
	}}
}

func (h *home) write(name, content string) {
	h.t.Helper()
	file := filepath.Join(h.dir, filepath.FromSlash(name))
	qt.Assert(h.t, qt.IsNil(os.MkdirAll(filepath.Dir(file), 0o777)))
	qt.Assert(h.t, qt.IsNil(os.WriteFile(file, []byte(content), 0o666)))
}

func (h *home) setenv(name, value string) { h.env = append(h.env, name+"="+value) }

func (h *home) path(name string) string { return filepath.Join(h.dir, filepath.FromSlash(name)) }

func (h *home) load(runner ociauth.HelperRunner) *ociauth.ConfigFile {
	h.t.Helper()
	if runner == nil {
		runner = func(name, serverURL string) (ociauth.ConfigEntry, error) {
			h.t.Errorf("helper %s was run for %s", name, serverURL)
			return ociauth.ConfigEntry{}, nil
		}
	}
	c, err := ociauth.LoadWithEnv(runner, h.env)
	qt.Assert(h.t, qt.IsNil(err))
	return c
}

func TestLoadWithoutFilesFindsNothing(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.write("notadir", "")
	h.setenv("DOCKER_CONFIG", h.path("notadir/docker"))
	for _, env := range [][]string{h.env, {"XDG_RUNTIME_DIR=" + h.path("run")}, {"DOCKER_AUTH_CONFIG=", "XDG_RUNTIME_DIR=" + h.path("run"), "odd"}} {
		c, err := ociauth.LoadWithEnv(nil, env)
		qt.Assert(t, qt.IsNil(err))
		entry, err := c.EntryForRegistry("registry.test")
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(entry, ociauth.ConfigEntry{}))
	}
}

func TestLoadPrefersEarlierSources(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	want := func(user string) {
		t.Helper()
		c := h.load(nil)
		entry, err := c.EntryForRegistry("registry.test")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(entry.Username, user))
		// An entry that only a later source has is found, too.
		entry, err = c.EntryForRegistry("last.test")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(entry.Username, "last"))
	}
	const host = "registry.test"
	h.write(".docker/config.json", auths(host, "docker", "last.test", "last"))
	want("docker")
	h.write("dockerconfig/config.json", auths(host, "dockerconfig", "last.test", "last"))
	h.setenv("DOCKER_CONFIG", h.path("dockerconfig"))
	want("dockerconfig")
	h.write(".config/containers/auth.json", auths(host, "config"))
	want("config")
	h.write("xdg/containers/auth.json", auths(host, "xdg"))
	h.setenv("XDG_CONFIG_HOME", h.path("xdg"))
	want("xdg")
	h.write("run/containers/auth.json", auths(host, "run"))
	want("run")
	h.write("explicit.json", auths(host, "explicit"))
	h.setenv("REGISTRY_AUTH_FILE", h.path("explicit.json"))
	want("explicit")
	h.write("explicit.json", `{}`)
	want("xdg") // the explicit file replaces the one in run
	h.setenv("DOCKER_AUTH_CONFIG", auths(host, "inline"))
	want("inline")
	h.setenv("DOCKER_AUTH_CONFIG", "")
	want("xdg")
}

func TestEntryIsReadInEachForm(t *testing.T) {
	t.Parallel()
	tests := []struct {
		entry string
		want  ociauth.ConfigEntry
		err   string
	}{
		{`{}`, ociauth.ConfigEntry{}, ""},
		{`null`, ociauth.ConfigEntry{}, ""},
		{`{"auth":"dXNlcjpwYXNzdw=="}`, ociauth.ConfigEntry{Username: "user", Password: "passw"}, ""},
		{`{"auth":"dXNlcjpwYXNzdw"}`, ociauth.ConfigEntry{Username: "user", Password: "passw"}, ""},
		{`{"auth":" dXNlcjpwYXNzdw==\n"}`, ociauth.ConfigEntry{Username: "user", Password: "passw"}, ""},
		{`{"auth":"` + encode("user:p:a:s:s\x00\x00") + `"}`, ociauth.ConfigEntry{Username: "user", Password: "p:a:s:s"}, ""},
		{`{"username":"user","password":"pass"}`, ociauth.ConfigEntry{Username: "user", Password: "pass"}, ""},
		{`{"username":"x","password":"y","auth":"` + encode("user:pass") + `","email":"e"}`, ociauth.ConfigEntry{Username: "user", Password: "pass"}, ""},
		{`{"identitytoken":"id","auth":"` + encode("00000000-0000-0000-0000-000000000000:") + `"}`, ociauth.ConfigEntry{Username: "00000000-0000-0000-0000-000000000000", RefreshToken: "id"}, ""},
		{`{"registrytoken":"static"}`, ociauth.ConfigEntry{AccessToken: "static"}, ""},
		{`{"auth":"SECRET!"}`, ociauth.ConfigEntry{}, "auth is not the base64 of username:password"},
		{`{"auth":"` + encode("SECRET") + `"}`, ociauth.ConfigEntry{}, "auth is not the base64 of username:password"},
	}
	for _, test := range tests {
		h := newHome(t)
		h.setenv("DOCKER_AUTH_CONFIG", `{"auths":{"registry.test":`+test.entry+`,"other.test":{"auth":"`+encode("other:pass")+`"}}}`)
		c := h.load(nil)
		entry, err := c.EntryForRegistry("registry.test")
		qt.Check(t, qt.Equals(entry, test.want), qt.Commentf("%s", test.entry))
		if test.err == "" {
			qt.Check(t, qt.IsNil(err))
		} else {
			qt.Check(t, qt.ErrorMatches(err, `credentials for registry\.test from \$DOCKER_AUTH_CONFIG: `+test.err))
		}
		entry, err = c.EntryForRegistry("other.test") // the error does not concern it
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(entry.Username, "other"))
	}
}

func TestKeysStandForHostsAndRepositories(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.setenv("DOCKER_AUTH_CONFIG", auths(
		"plain.test", "plain",
		"https://scheme.test", "scheme",
		"http://v1.test/v1/", "v1",
		"https://v2.test:5000/v2/", "v2",
		"UPPER.test", "upper",
		"https.test:443", "https",
		"https://index.docker.io/v1/", "hub",
		"docker.io/library", "library",
		"path.test", "host",
		"path.test/a", "a",
		"https://path.test/a/b/", "b",
		"path.test/a/b/c/d", "d",
		"only.test/a", "only",
	))
	h.write(".docker/config.json", auths("only.test", "later", "only.test/a/b", "later too"))
	c := h.load(nil)
	tests := []struct{ host, repo, want string }{
		{"plain.test", "", "plain"},
		{"plain.test", "a/b", "plain"},
		{"plain.test:5000", "", ""},
		{"sub.plain.test", "", ""},
		{"scheme.test", "", "scheme"},
		{"v1.test", "", "v1"},
		{"v1.test", "v1", "v1"},
		{"v2.test:5000", "", "v2"},
		{"v2.test", "", ""},
		{"upper.test", "", "upper"},
		{"Upper.Test", "", "upper"},
		{"https.test", "", "https"},
		{"https.test:443", "", "https"},
		{"docker.io", "", "hub"},
		{"index.docker.io", "", "hub"},
		{"registry-1.docker.io", "", "hub"},
		{"registry-1.docker.io", "user/app", "hub"},
		{"registry-1.docker.io", "library/alpine", "library"},
		{"path.test", "", "host"},
		{"path.test", "x", "host"},
		{"path.test", "ab", "host"},
		{"path.test", "a", "a"},
		{"path.test", "a/x", "a"},
		{"path.test", "a/b", "b"},
		{"path.test", "a/b/c", "b"},
		{"path.test", "a/b/c/d", "d"},
		{"path.test", "a/b/c/d/e", "d"},
		{"only.test", "a/b", "only"},
		{"only.test", "b", "later"},
		{"", "", ""},
	}
	for _, test := range tests {
		entry, err := c.EntryForRepository(test.host, test.repo)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(entry.Username, test.want), qt.Commentf("%s/%s", test.host, test.repo))
	}
}

func TestChoiceAmongEqualKeysIsNotByChance(t *testing.T) {
	t.Parallel()
	for range 20 {
		h := newHome(t)
		h.setenv("DOCKER_AUTH_CONFIG", strings.Replace(auths("docker.io", "a", "index.docker.io", "b", "https://index.docker.io/v1/", "c"), encode("a:pass"), "", 1))
		entry, err := h.load(nil).EntryForRegistry("docker.io")
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(entry.Username, "c"))
	}
}

func TestLoadErrorsShowNoContent(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		`SECRET`,
		`{"auths":{"registry.test":{"auth":SECRET}}}`,
		`{"auths":{"registry.test":{"password":123456}}}`,
		`{"auths":{"registry.test":{"auth":"SECRET"`,
		`{"auths":["SECRET"]}`,
	} {
		h := newHome(t)
		h.write(".docker/config.json", content)
		_, err := ociauth.LoadWithEnv(nil, h.env)
		qt.Assert(t, qt.ErrorMatches(err, `credentials: .*config\.json is not JSON of the right form at byte \d+`))
		qt.Check(t, qt.IsFalse(strings.Contains(err.Error(), "SECRET")))
		qt.Check(t, qt.IsFalse(strings.Contains(err.Error(), "123456")))
	}
	h := newHome(t)
	h.write(".docker/config.json/directory", "")
	_, err := ociauth.LoadWithEnv(nil, h.env)
	qt.Check(t, qt.ErrorMatches(err, `credentials: .*config\.json: .*`))
}

func TestHelperGoesBeforeItsFile(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	runner := func(name, serverURL string) (ociauth.ConfigEntry, error) {
		switch name {
		case "absent":
			return ociauth.ConfigEntry{}, fmt.Errorf("%w: absent", ociauth.ErrHelperNotFound)
		case "empty":
			return ociauth.ConfigEntry{}, nil
		case "broken":
			return ociauth.ConfigEntry{}, broken
		}
		return ociauth.ConfigEntry{Username: name, Password: serverURL}, nil
	}
	const file = `,"auths":{"registry.test":{"username":"file"},"registry.test/path":{"username":"path"}}`
	tests := []struct {
		file       string
		host, repo string
		user, url  string
		err        error
	}{
		{`"credsStore":"store"`, "registry.test", "", "store", "registry.test", nil},
		{`"credsStore":"store"`, "localhost:5000", "", "store", "localhost:5000", nil},
		{`"credsStore":"store"`, "registry-1.docker.io", "a/b", "store", "https://index.docker.io/v1/", nil},
		{`"credsStore":"store","credHelpers":{"registry.test":"own"}`, "registry.test", "", "own", "registry.test", nil},
		{`"credsStore":"store","credHelpers":{"registry.test":"own"}`, "other.test", "", "store", "other.test", nil},
		{`"credHelpers":{"https://index.docker.io/v1/":"own"}`, "docker.io", "", "own", "https://index.docker.io/v1/", nil},
		{`"credHelpers":{"docker.io":"own"}`, "registry-1.docker.io", "", "own", "docker.io", nil},
		{`"credHelpers":{"registry.test":""},"credsStore":"store"`, "registry.test", "", "store", "registry.test", nil},

		// The same file may have entries, too.
		{`"credsStore":"store"` + file, "registry.test", "", "store", "registry.test", nil},
		{`"credsStore":"store"` + file, "registry.test", "path/app", "path", "", nil},
		{`"credsStore":"empty"` + file, "registry.test", "", "file", "", nil},
		{`"credsStore":"absent"` + file, "registry.test", "", "file", "", nil},
		{`"credsStore":"broken"` + file, "registry.test", "", "file", "", nil},
		{`"credHelpers":{"registry.test":"absent"}` + file, "registry.test", "", "file", "", nil},

		// So may the next source.
		{`"credsStore":"broken"`, "next.test", "", "next", "", nil},

		// There are no credentials.
		{`"credsStore":"empty"`, "registry.test", "", "", "", nil},
		{`"credsStore":"absent"`, "registry.test", "", "", "", nil},
		{`"credsStore":"broken"`, "registry.test", "", "", "", broken},
		{`"credHelpers":{"registry.test":"empty"},"credsStore":"store"`, "registry.test", "", "", "", nil},
		{`"credHelpers":{"registry.test":"absent"},"credsStore":"store"`, "registry.test", "", "", "", ociauth.ErrHelperNotFound},
	}
	for _, test := range tests {
		h := newHome(t)
		h.setenv("DOCKER_AUTH_CONFIG", "{"+test.file+"}")
		h.write(".docker/config.json", auths("next.test", "next"))
		entry, err := h.load(runner).EntryForRepository(test.host, test.repo)
		comment := qt.Commentf("%s: %s/%s", test.file, test.host, test.repo)
		qt.Check(t, qt.ErrorIs(err, test.err), comment)
		qt.Check(t, qt.Equals(entry.Username, test.user), comment)
		if test.url != "" {
			qt.Check(t, qt.Equals(entry.Password, test.url), comment)
		}
	}
}

// Concurrent callers share one run of a helper. It runs again for later ones.
func TestHelperAnswerIsSharedBriefly(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.setenv("DOCKER_AUTH_CONFIG", `{"credsStore":"store"}`)
	synctest.Test(t, func(t *testing.T) {
		runs := make(map[string]int)
		c := h.load(func(_, serverURL string) (ociauth.ConfigEntry, error) {
			time.Sleep(time.Second)
			runs[serverURL]++
			return ociauth.ConfigEntry{Username: "user"}, nil
		})
		ask := func(repo string) {
			entry, err := c.EntryForRepository("registry.test", repo)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(entry.Username, "user"))
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { ask(fmt.Sprintf("repo%d", i)) })
		}
		wg.Wait()
		ask("")
		qt.Check(t, qt.Equals(runs["registry.test"], 1))
		time.Sleep(time.Minute)
		ask("")
		qt.Check(t, qt.Equals(runs["registry.test"], 2))
	})
}

func TestRepositoryChoosesCredentials(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.setenv("DOCKER_AUTH_CONFIG", auths("registry.test", "all", "registry.test/team", "team", "registry.test/team/secret", "secret"))
	c := h.load(nil)
	tests := []struct{ method, path, required, want string }{
		{"GET", "/v2/foo/manifests/x", "", "all"},
		{"GET", "/v2/team/app/manifests/x", "", "team"},
		{"GET", "/v2/team/secret/manifests/x", "", "secret"},
		{"POST", "/v2/team/secret/blobs/uploads/?mount=sha256:0&from=foo", "", "secret"},
		{"GET", "/v2/", "", "all"},
		{"PATCH", "/elsewhere", "repository:team/secret:pull,push", "secret"},
		{"PATCH", "/elsewhere", "repository:foo:pull repository:team/secret:pull,push", "secret"},
		{"GET", "/elsewhere", "repository:team/x:pull", "team"},
	}
	for _, test := range tests {
		for _, scheme := range []string{"Basic", "Bearer"} {
			var user string
			seen := func(req *http.Request) bool {
				var ok bool
				user, _, ok = req.BasicAuth()
				return ok
			}
			s := &tokenServer{answer: func(_ http.ResponseWriter, req *http.Request) bool { seen(req); return false }}
			w := bearerWorld(s)
			w.hosts[registryURL] = challenged{
				allow:     func(req *http.Request) bool { return s.allows(req, "") || scheme == "Basic" && seen(req) },
				challenge: func(*http.Request) []string { return []string{scheme + ` realm="https://auth.test/token"`} },
			}
			client := newClient(w, c)
			get(t, client, "/v2/other/tags/list") // makes the scheme known
			ctx := ociauth.ContextWithRequestInfo(t.Context(), ociauth.RequestInfo{RequiredScope: ociauth.ParseScope(test.required)})
			qt.Check(t, qt.Equals(do(t, ctx, client, test.method, test.path), http.StatusOK))
			if scheme == "Bearer" && test.path == "/v2/" {
				continue // any token would do
			}
			qt.Check(t, qt.Equals(user, test.want), qt.Commentf("%s %s %s", scheme, test.method, test.path))
		}
	}
}
