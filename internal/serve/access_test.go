package serve

import (
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// byKey lets in who has the key, which a flag gives, as the user name.
func byKey() *Access {
	var key string
	return &Access{
		Define: func(flags *flag.FlagSet) { flags.StringVar(&key, "key", "", "the `key`") },
		Open: func(logger *slog.Logger) (ociserver.AuthorizeFunc, error) {
			switch key {
			case "":
				return nil, nil
			case "broken":
				return nil, errors.New("the key is broken")
			}
			return func(req *http.Request, want []ociserver.Access) (func(ociserver.Access) bool, error) {
				if user, _, _ := req.BasicAuth(); user != key {
					return nil, ociregistry.ErrUnauthorized
				}
				return func(ociserver.Access) bool { return true }, nil
			}, nil
		},
	}
}

func TestAccess_IsForTheAPIAndForPages(t *testing.T) {
	t.Parallel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	url, _, _ := startWith(t, Program{Access: byKey()}, "-key", "sesame")
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/app/tags/list", "/", "/r/app"} {
		status, _ := get(t, transport, strings.TrimSuffix(url, "/v2")+path)
		qt.Check(t, qt.Equals(status, http.StatusUnauthorized), qt.Commentf(path))
	}
	withKey := strings.Replace(url, "http://", "http://sesame:@", 1)
	for path, want := range map[string]int{"/v2/": 200, "/v2/_catalog": 200, "/v2/app/tags/list": 404, "/": 200} {
		status, _ := get(t, transport, strings.TrimSuffix(withKey, "/v2")+path)
		qt.Check(t, qt.Equals(status, want), qt.Commentf(path))
	}
	status, _ := get(t, transport, strings.TrimSuffix(url, "/v2")+"/healthz")
	qt.Check(t, qt.Equals(status, http.StatusOK))

	url, _, _ = startWith(t, Program{Access: byKey()})
	status, _ = get(t, transport, url+"/_catalog")
	qt.Check(t, qt.Equals(status, http.StatusOK))

	var errs strings.Builder
	qt.Check(t, qt.Equals(Program{Access: byKey()}.Run(t.Context(), []string{"-key", "broken"}, io.Discard, &errs), 1))
	qt.Check(t, qt.Equals(errs.String(), "ociserve: the key is broken\n"))
}
