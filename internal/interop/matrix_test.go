package interop

import (
	"path/filepath"
	"testing"
)

// tool is a client that copies between registries and OCI image layouts.
type tool interface {
	// push pushes what a layout has under the tag v1 to a repository, under
	// the same tag.
	push(t testing.TB, layout, repo string)

	// pull pulls the tag v1 of a repository into a new layout.
	pull(t testing.TB, repo, layout string)
}

var tools = map[string]func(*testing.T, *server) tool{
	"crane":  func(t *testing.T, s *server) tool { return newCrane(t, s) },
	"regctl": func(t *testing.T, s *server) tool { return newRegctl(t, s) },
	"oras":   func(t *testing.T, s *server) tool { return newOras(t, s) },
	"skopeo": func(t *testing.T, s *server) tool { return newSkopeo(t, s) },
}

func TestEachReadsWhatEachWrote(t *testing.T) {
	t.Parallel()
	testMatrix(t, startServer(t))
}

// TestEachReadsWhatEachWroteByProxy does it at a proxy.
func TestEachReadsWhatEachWroteByProxy(t *testing.T) {
	t.Parallel()
	testMatrix(t, startProxy(t))
}

func testMatrix(t *testing.T, s *server) {
	all := []string{"crane", "regctl", "oras", "skopeo"}
	tests := []struct {
		name             string
		content          content
		writers, readers []string
	}{
		{"image", newImage(t, formatOCI, "amd64"), all, all},
		{"index", newIndex(t), all, all},
		{"artifact", newArtifact(t, nil, "gcc\n"), all, all},
		{"empty", newArtifact(t, nil, ""), all, all},
		// Skopeo finds no Docker images in layouts; TestSkopeo pushes some.
		{"docker", newImage(t, formatDocker, "amd64"), []string{"crane", "regctl", "oras"}, all},
		// The others know SHA-256 only, in parts.
		{"sha512", newImage(t, formatSHA512, "amd64"), []string{"regctl"}, []string{"regctl", "oras"}},
	}
	for _, test := range tests {
		layout := writeLayout(t, test.content, "v1")
		for _, writer := range test.writers {
			t.Run(test.name+"/"+writer, func(t *testing.T) {
				t.Parallel()
				repo := writer + "/" + test.name
				tools[writer](t, s).push(t, layout, s.repo(repo))
				s.check(t, repo, "v1", test.content)
				for _, reader := range test.readers {
					t.Run(reader, func(t *testing.T) {
						pulled := filepath.Join(t.TempDir(), "layout")
						tools[reader](t, s).pull(t, s.repo(repo), pulled)
						checkLayout(t, pulled, test.content)
					})
				}
			})
		}
	}
}
