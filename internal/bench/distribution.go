package main

import (
	"context"
	"io"
	"net/http"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/sirupsen/logrus"
)

// openDistribution opens distribution's registry with its filesystem driver. It
// is configured as its own examples are, with a cache of blob descriptors in
// memory; what costs time beside the work is off: logs, metrics, health checks,
// tracing, the purging of uploads. The spans and timers of its drivers cannot
// be left out, but nobody collects them.
//
// It is compared with the durable ocifs because its driver
// (registry/storage/driver/filesystem/driver.go) syncs: fileWriter.Commit
// syncs each file, as does fileWriter.Close of an upload that goes on, and
// PutContent syncs the file, renames it, and syncs its directory. So it syncs
// ten times for a blob by POST and PUT, and eight times for a new manifest with
// a tag, or six if it has the manifest. It does less than ocifs does: Move, by
// which a blob comes to its place, syncs no directory, and no directory that
// MkdirAll creates is synced in the one above it. Some filesystems, ext4 among
// them, keep these all the same.
func openDistribution(dir string) (_ http.Handler, close func() error, _ error) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.ErrorLevel)
	app := handlers.NewApp(context.Background(), &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem":  {"rootdirectory": dir},
			"cache":       {"blobdescriptor": "inmemory"},
			"delete":      {"enabled": true},
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
		Catalog: configuration.Catalog{MaxEntries: 1000},
	})
	return app, app.Shutdown, nil
}
