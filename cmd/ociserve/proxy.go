package main

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// idlePerHost is how many connections to the registry are kept for the requests
// to come.
const idlePerHost = 64

// retry is for what may soon be over. For longer the client is not kept waiting:
// it gets the error, with its Retry-After, and can try again itself.
var retry = ociclient.RetryPolicy{Attempts: 3, MaxRetryAfter: time.Second}

// remote is a registry on another host.
type remote struct {
	host  string
	plain bool // without TLS
}

// set parses a host, with the scheme if it is not https.
func (r *remote) set(value string) error {
	host, plain := strings.CutPrefix(value, "http://")
	host = strings.TrimSuffix(strings.TrimPrefix(host, "https://"), "/")
	if !ociref.IsValidHost(host) && !ociref.IsValidHost(host+":443") {
		return errors.New("it is not a host")
	}
	*r = remote{host, plain}
	return nil
}

// open returns the registry, with the credentials that Docker and Podman keep.
// Nothing has been asked of it.
func (r remote) open(readOnly bool, logger *slog.Logger) (backend, error) {
	credentials, err := ociauth.Load(nil)
	if err != nil {
		return nil, err
	}
	connections := http.DefaultTransport.(*http.Transport).Clone()
	connections.MaxIdleConns, connections.MaxIdleConnsPerHost = 0, idlePerHost
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

// proxy is closed by closing the connections that are not in use.
type proxy struct {
	ociregistry.Interface
	connections *http.Transport
}

func (p proxy) Close() error {
	p.connections.CloseIdleConnections()
	return nil
}
