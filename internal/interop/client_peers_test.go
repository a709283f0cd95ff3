package interop

import (
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/sirupsen/logrus"
)

// peer is a registry that others have written.
type peer struct {
	// open returns a new registry that wants to be authenticated to. What it
	// logs goes nowhere.
	open func(t testing.TB, a access) http.Handler

	// What it cannot do.
	lacks map[ability]bool

	// The clauses of the contract that it does not keep, each a group or a name
	// as ocitest has it, by the reason.
	deviations map[string]string
}

// ability is something that not every registry can do.
type ability string

const (
	askUpload    ability = "ask how much an upload has"
	cancelUpload ability = "cancel an upload"
	mountBlobs   ability = "mount blobs"
	pageCatalog  ability = "list repositories in order, and in pages"
	referrersAPI ability = "list referrers"
	blobErrors   ability = "tell that a blob is not there from a failure, when it is to be deleted"
	dropTags     ability = "delete the tags of a manifest that is deleted"
)

var peers = map[string]peer{
	"distribution": {
		open:       openDistribution,
		lacks:      map[ability]bool{referrersAPI: true},
		deviations: distributionDeviations,
	},
	"ggcr": {
		open:       openGGCR,
		deviations: ggcrDeviations,
		lacks:      map[ability]bool{askUpload: true, cancelUpload: true, mountBlobs: true, pageCatalog: true, referrersAPI: true, blobErrors: true, dropTags: true},
	},
}

func init() {
	logrus.SetOutput(io.Discard) // it is global to distribution
}

// openDistribution opens distribution's registry, in memory, with its own ways to
// authenticate.
func openDistribution(t testing.TB, a access) http.Handler {
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			"inmemory":    {},
			"delete":      {"enabled": true},
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
		Catalog: configuration.Catalog{MaxEntries: 2}, // fewer than we ask for
	}
	dir := t.TempDir()
	switch a.scheme {
	case basic:
		config.Auth = configuration.Auth{"htpasswd": {
			"realm": "registry",
			"path":  writeConfig(t, dir, "htpasswd", user+":"+passwordHash+"\n"),
		}}
	case bearer:
		config.Auth = configuration.Auth{"token": {
			"realm":   a.tokens.realm(),
			"service": tokenService,
			"issuer":  tokenIssuer,
			"jwks":    writeConfig(t, dir, "jwks", a.tokens.keys()),
		}}
	}
	app := handlers.NewApp(t.Context(), config)
	t.Cleanup(func() { app.Shutdown() })
	return app
}

func writeConfig(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// openGGCR opens go-containerregistry's registry. It has no authentication of its
// own, so there is a guard before it.
func openGGCR(_ testing.TB, a access) http.Handler {
	return guard(a, ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
}
