package serve

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
	"github.com/seed-40b21970/oci/ociserver"
)

// apiPath is the path of the API below the root of the site.
const apiPath = "v2/"

// withPages adds the pages of the registry to its API, at all paths but those of the API.
func (cfg config) withPages(api http.Handler, registry ociregistry.Interface, authorize ociserver.AuthorizeFunc, logger *slog.Logger) http.Handler {
	if !cfg.site.web {
		return api
	}
	pages := ociweb.New(registry, &ociweb.Options{
		Authorize:     authorize,
		Remote:        cfg.hasRemote(),
		ShareList:     true,
		AnswerTimeout: cfg.site.timeout,
		Logger:        logger,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path+"/", "/"+apiPath) {
			api.ServeHTTP(w, req)
			return
		}
		pages.ServeHTTP(w, req)
	})
}
