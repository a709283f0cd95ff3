package serve

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/locked"
)

// TestCache_ServesWhatWasPulledWithoutTheOrigin checks that what was pulled is
// served without the origin, also by the next program with the same directory.
func TestCache_ServesWhatWasPulledWithoutTheOrigin(t *testing.T) {
	t.Parallel()
	url, _, stopOrigin := start(t)
	origin := docker{strings.TrimSuffix(url, "/v2")}
	config, layer := []byte("{}"), []byte("a layer")
	manifest := origin.pushImage(t, "a/b", "v1", config, layer)
	origin.pushImage(t, "a/b", "v2", config, []byte("another layer"))

	dir := t.TempDir()
	args := []string{"-cache", origin.base, "-dir", dir, "-max-bytes", "1000000"}
	url, _, stop := start(t, args...)
	cache := docker{strings.TrimSuffix(url, "/v2")}
	cache.pullImage(t, "a/b", "v1", manifest, config, layer)
	resp, body := cache.do(t, http.MethodGet, "/v2/a/b/tags/list", nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
	qt.Check(t, qt.JSONEquals(body, map[string]any{"name": "a/b", "tags": []string{"v1", "v2"}}))
	resp, _ = cache.do(t, http.MethodGet, "/v2/a/b/manifests/v3", nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusNotFound))
	resp, _ = cache.do(t, http.MethodPost, "/v2/a/b/blobs/uploads/", nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusBadRequest)) // UNSUPPORTED

	qt.Assert(t, qt.Equals(stopOrigin(), 0))
	cache.pullImage(t, "a/b", "v1", manifest, config, layer)
	qt.Assert(t, qt.Equals(stop(), 0))
	url, log, stop := start(t, args...)
	cache = docker{strings.TrimSuffix(url, "/v2")}
	cache.pullImage(t, "a/b", "v1", manifest, config, layer)
	qt.Check(t, qt.StringContains(log.String(), "the origin failed; serving what is kept"))
	resp, body = cache.do(t, http.MethodGet, "/v2/_catalog", nil, nil)
	qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
	qt.Check(t, qt.JSONEquals(body, map[string]any{"repositories": []string{"a/b"}}))
	qt.Assert(t, qt.Equals(stop(), 0))

	// Other programs find the image there.
	index, err := os.ReadFile(filepath.Join(dir, "a/b/index.json"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(string(index), dockerManifestType))
}

// TestWhole_FetchesTheImageOfAManifest checks that a manifest alone that was asked
// for brings all of its image.
func TestWhole_FetchesTheImageOfAManifest(t *testing.T) {
	t.Parallel()
	for _, platforms := range []string{"all", "linux/amd64,linux/arm64"} {
		url, _, stopOrigin := start(t)
		origin := docker{strings.TrimSuffix(url, "/v2")}
		config, layer := []byte("{}"), []byte("a layer")
		manifest := origin.pushImage(t, "a/b", "v1", config, layer)

		dir := t.TempDir()
		url, _, stop := start(t, "-cache", origin.base, "-dir", dir, "-whole", platforms)
		cache := docker{strings.TrimSuffix(url, "/v2")}
		resp, _ := cache.do(t, http.MethodGet, "/v2/a/b/manifests/v1", nil, dockerAccept)
		qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusOK))
		for _, blob := range [][]byte{config, layer} {
			file := filepath.Join(dir, "a/b/blobs/sha256", digest.FromBytes(blob).Encoded())
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
				if _, err := os.Stat(file); err == nil {
					break
				}
				time.Sleep(5 * time.Millisecond) // it comes in the background
			}
		}
		qt.Assert(t, qt.Equals(stopOrigin(), 0))
		cache.pullImage(t, "a/b", "v1", manifest, config, layer)
		qt.Assert(t, qt.Equals(stop(), 0))
	}
}

// TestCache_WithRulesServesAndMirrorsSeveralOrigins checks where repositories come
// from, and that what is kept up to date is there without having been asked for.
func TestCache_WithRulesServesAndMirrorsSeveralOrigins(t *testing.T) {
	t.Parallel()
	var bases []docker
	var stops []func() int
	for range 2 {
		url, _, stop := start(t)
		bases, stops = append(bases, docker{strings.TrimSuffix(url, "/v2")}), append(stops, stop)
	}
	origin, other := bases[0], bases[1]
	config, layer := []byte("{}"), []byte("a layer")
	manifest := origin.pushImage(t, "app", "v1", config, layer)
	second := other.pushImage(t, "team/tool", "v2.0.0", config, []byte("another layer"))
	other.pushImage(t, "team/tool", "v1.0.0", config, []byte("an old layer"))
	other.pushImage(t, "team/tool", "latest", config, []byte("any layer"))
	third := other.pushImage(t, "later/tool", "v3", config, []byte("a third layer"))

	file := writeRules(t, `{
		"interval": "1h",
		"sources": [
			{"registry": %q, "rules": [{"repositories": "team/", "destination": "mirror", "tags": {"semver": true, "newest": 1}}]},
			{"registry": %[1]q, "onDemand": true, "rules": [{"repositories": "later/"}]}
		]
	}`, other.base)
	url, log, stop := start(t, "-cache", origin.base, "-dir", t.TempDir(), "-mirror", file)
	cache := docker{strings.TrimSuffix(url, "/v2")}
	awaitLog(t, log, "outcome=updated")
	cache.pullImage(t, "app", "v1", manifest, config, layer)
	cache.pullImage(t, "later/tool", "v3", third, config, []byte("a third layer"))
	for repo, want := range map[string]int{
		"mirror/team/tool/manifests/v1.0.0": http.StatusOK, // newest is about what is copied
		"mirror/team/tool/manifests/latest": http.StatusNotFound,
		"team/tool/manifests/v2.0.0":        http.StatusNotFound, // not at the origin
		"later/app/manifests/v1":            http.StatusNotFound,
	} {
		resp, _ := cache.do(t, http.MethodGet, "/v2/"+repo, nil, dockerAccept)
		qt.Check(t, qt.Equals(resp.StatusCode, want), qt.Commentf("%s", repo))
	}
	for _, stop := range stops {
		qt.Assert(t, qt.Equals(stop(), 0))
	}
	cache.pullImage(t, "app", "v1", manifest, config, layer)
	cache.pullImage(t, "later/tool", "v3", third, config, []byte("a third layer"))
	cache.pullImage(t, "mirror/team/tool", "v2.0.0", second, config, []byte("another layer"))
	qt.Assert(t, qt.Equals(stop(), 0))
}

func TestBadRules_AreUsageErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "rules.json")
	absent := filepath.Join(dir, "absent")
	tests := []struct{ text, want string }{
		{``, `-mirror ` + file + `: EOF`},
		{`[]`, `-mirror ` + file + `: json: cannot unmarshal array.*`},
		{`{"sources": []}`, `-mirror ` + file + `: there are no sources`},
		{`{"sources": [{}]} {}`, `-mirror ` + file + `: there is more than one JSON value`},
		{`{"sources": [{}], "intervals": "1h"}`, `-mirror ` + file + `: json: unknown field "intervals"`},
		{`{"sources": [{"rules": [{"repository": "a"}]}]}`, `-mirror ` + file + `: json: unknown field "repository"`},
		{`{"sources": [{}], "interval": "soon"}`, `-mirror ` + file + `: .*invalid duration "soon"`},
		{`{"sources": [{}], "interval": "1ms"}`, `-mirror ` + file + `: .*"1ms" is less than a second`},
		{`{"sources": [{"stall": "0s"}]}`, `-mirror ` + file + `: .*"0s" is less than a second`},
		{`{"sources": [{"stall": 30}]}`, `-mirror ` + file + `: json: cannot unmarshal number.*`},
		{`{"sources": [{"stalls": "30s"}]}`, `-mirror ` + file + `: json: unknown field "stalls"`},
		{`{"sources": [{"rules": [{"repositories": "a", "tags": {"regex": "a"}}]}]}`, `-mirror ` + file + `: json: unknown field "regex"`},
		{`{"sources": [{"rules": [{"repositories": "a", "dropOther": true}]}]}`, `-mirror ` + file + `: json: unknown field "dropOther"`},
		{`{"sources": [{"rules": [{"repositories": "a", "dropOthers": true}]}]}`, `-mirror ` + file + `: source "1, registry.example", rule 1: dropOthers needs platforms`},
		{`{"sources": [{"registry": "a/b"}]}`, `-mirror ` + file + `: .*registry "a/b": it is not a host`},
		{`{"sources": [{}]}`, `-mirror ` + file + `: source 1 has no rules`},
		{`{"sources": [{"rules": [{"repositories": "A"}]}]}`, `-mirror ` + file + `: source "1, registry.example", rule 1: repositories: "A" is not a pattern of repository names`},
		{`{"sources": [{"onDemand": true, "rules": [{"repositories": "a", "tags": {"match": "("}}]}]}`, `-mirror ` + file + `: source .*, rule 1: tags: error parsing regexp.*`},
	}
	for _, test := range tests {
		qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte(test.text), 0o666)))
		checkFails(t, test.want, "-cache", "registry.example", "-mirror", file)
	}
	checkFails(t, `-mirror: open `+absent+`: no such file or directory`, "-cache", "registry.example", "-mirror", absent)
	checkFails(t, `.*not a directory`, "-cache", "registry.example", "-dir", file)
}

// checkFails checks that the program ends with an error of its own.
func checkFails(t *testing.T, want string, args ...string) {
	t.Helper()
	var stdout, stderr locked.Buffer
	args = append([]string{"-addr", "127.0.0.1:0"}, args...)
	qt.Check(t, qt.Equals(Program{}.Run(t.Context(), args, &stdout, &stderr), 1), qt.Commentf("%q", args))
	qt.Check(t, qt.Matches(stderr.String(), "ociserve: "+want+"\n"))
	qt.Check(t, qt.Equals(stdout.String(), ""))
}
