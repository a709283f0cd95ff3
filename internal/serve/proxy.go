package serve

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociregistry/ocicerts"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// idlePerHost is the maximum number of idle connections to the registry that are kept for
// further requests.
const idlePerHost = 64

// retry is for short failures. After a longer one, the client gets the error with its
// Retry-After, and can try again itself.
var retry = ociclient.RetryPolicy{Attempts: 3, MaxRetryAfter: time.Second}

// remote is a registry on another host.
type remote struct {
	host  string
	plain bool // without TLS
}

// set sets r to a host, which may have a scheme.
func (r *remote) set(value string) error {
	host, plain := strings.CutPrefix(value, "http://")
	host = strings.TrimSuffix(strings.TrimPrefix(host, "https://"), "/")
	if !ociref.IsValidHost(host) && !ociref.IsValidHost(host+":443") {
		return errors.New("it is not a host")
	}
	*r = remote{host, plain}
	return nil
}

// open returns the registry, with the credentials and certificates that Docker and Podman keep. It makes no
// request.
func (r remote) open(readOnly bool, logger *slog.Logger) (Registry, error) {
	credentials, err := ociauth.Load(nil)
	if err != nil {
		return nil, err
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConns, base.MaxIdleConnsPerHost = 0, idlePerHost
	connections, err := ocicerts.NewTransport(r.host, &ocicerts.Options{Transport: base})
	if err != nil {
		return nil, err
	}
	reg, err := ociclient.New(r.host, &ociclient.Options{
		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{
			Config:    credentials,
			Transport: connections,
			ClientID:  "ociserve",
			Logger:    logger,
		}),
		Insecure:  r.plain,
		UserAgent: "ociserve",
		Retry:     retry,
		Logger:    logger,
	})
	if err != nil {
		return nil, err
	}
	if readOnly {
		reg = ocifilter.ReadOnly(reg)
	}
	return proxy{reg, connections}, nil
}

// proxy is a remote registry. Close closes its idle connections.
type proxy struct {
	ociregistry.Interface
	connections *ocicerts.Transport
}

func (p proxy) Close() error {
	p.connections.CloseIdleConnections()
	return nil
}
