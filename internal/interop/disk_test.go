package interop

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// held is what a repository has.
type held struct {
	tags     map[string]content
	untagged []content

	// referrers has the artifact types of what refers to a manifest, by the
	// digest of that.
	referrers map[string][]string
}

// checkHeld checks by plain HTTP that a repository has what it should.
func (s *server) checkHeld(t testing.TB, repo string, want held) {
	t.Helper()
	var names []string
	for tag, c := range want.tags {
		names = append(names, tag)
		s.check(t, repo, tag, c)
	}
	checkList(t, s.tags(t, repo), slices.Sorted(slices.Values(names)))
	for _, c := range want.untagged {
		s.check(t, repo, c.root.Digest, c)
	}
	for subject, types := range want.referrers {
		checkSet(t, s.referrers(t, repo, subject), types...)
	}
}

// tags returns the tags of a repository.
func (s *server) tags(t testing.TB, repo string) []string {
	t.Helper()
	_, body := s.get(t, repo+"/tags/list")
	var list struct{ Tags []string }
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatalf("%v in %.1000s", err, body)
	}
	return list.Tags
}

// catalog returns the names of all repositories.
func (s *server) catalog(t testing.TB) []string {
	t.Helper()
	_, body := s.get(t, "_catalog")
	var list struct{ Repositories []string }
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatalf("%v in %.1000s", err, body)
	}
	return list.Repositories
}

// referrers returns the artifact types of what refers to a manifest, after it
// checked that all of it is there.
func (s *server) referrers(t testing.TB, repo, subject string) []string {
	t.Helper()
	_, body := s.get(t, repo+"/referrers/"+subject)
	var list manifest
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatalf("%v in %.1000s", err, body)
	}
	var types []string
	for _, desc := range list.Manifests {
		types = append(types, desc.ArtifactType)
		_, text := s.get(t, repo+"/manifests/"+desc.Digest)
		if sha256Digest(text) != desc.Digest {
			t.Errorf("%s@%s: other content", repo, desc.Digest)
		}
		var m manifest
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		if m.Subject == nil || m.Subject.Digest != subject {
			t.Errorf("%s@%s: subject %v, want %s", repo, desc.Digest, m.Subject, subject)
		}
		for _, blob := range append(m.Layers, *m.Config) {
			s.blob(t, repo, &blob)
		}
	}
	return types
}

// putTag puts the root of c under a tag: all that it needs is there.
func (s *server) putTag(t testing.TB, repo, tag string, c content) {
	t.Helper()
	s.put(t, "PUT", repo+"/manifests/"+tag, c.root.MediaType, c.blobs[c.root.Digest])
}

// awaitLayout waits until the index.json of a layout says what it should, while
// a server has it open, and checks that the blobs are files then. That takes the
// server a second, if it is not kept from it.
func awaitLayout(t testing.TB, dir string, want held) {
	t.Helper()
	var wrong string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if wrong = wrongIn(t, dir, want); wrong == "" {
			checkBlobFiles(t, dir, want)
			return
		}
	}
	t.Fatalf("after %v, %s has no entry for %s, or not the right one", patience, dir, wrong)
}

// wrongIn returns what the index.json of a layout does not list, lists with
// another digest, or should not list any more.
func wrongIn(t testing.TB, dir string, want held) string {
	t.Helper()
	listed := make(map[string]bool)
	tagged := make(map[string]string)
	for _, desc := range readIndex(t, dir).Manifests {
		listed[desc.Digest] = true
		// Crane writes a reference that ends in the tag.
		name := desc.Annotations[refName]
		tagged[name[strings.LastIndexByte(name, ':')+1:]] = desc.Digest
	}
	for tag, c := range want.tags {
		if tagged[tag] != c.root.Digest {
			return tag
		}
	}
	for _, c := range want.untagged {
		if !listed[c.root.Digest] {
			return c.root.Digest
		}
	}
	for tag := range tagged {
		if _, ok := want.tags[tag]; !ok && tag != "" {
			return tag
		}
	}
	return ""
}

// checkBlobFiles checks that a layout has all blobs.
func checkBlobFiles(t testing.TB, dir string, want held) {
	t.Helper()
	all := slices.Clone(want.untagged)
	for _, c := range want.tags {
		all = append(all, c)
	}
	for _, c := range all {
		for digest, data := range c.blobs {
			checkBytes(t, dir+": "+digest, readFile(t, filepath.Join(dir, blobPath(digest))), data)
		}
	}
}

// writeFiles writes files below dir, with the directories that they need.
func writeFiles(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
