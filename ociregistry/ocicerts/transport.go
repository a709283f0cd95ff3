package ocicerts

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// Options has the settings of a [Transport]. The zero value is ready to use.
type Options struct {
	// Dirs are the directories to look in. The first that has a directory for a host
	// counts. Nil means DefaultDirs.
	Dirs []string

	// Transport makes the connections, with other TLSClientConfigs. It is not changed.
	// Its own RootCAs are trusted in the place of those of the system. Nil means
	// [http.DefaultTransport].
	Transport *http.Transport
}

// DefaultDirs returns the directories in which Podman looks, the last of which is Docker's.
func DefaultDirs() []string {
	dirs := []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append([]string{filepath.Join(home, ".config", "containers", "certs.d")}, dirs...)
	}
	return dirs
}

// Transport is an [http.RoundTripper] for the requests to one registry, and for those to which
// it leads: to token servers, and to where it redirects.
//
// Each host is trusted by the authorities of its own directory. Certificates of the client are
// for the registry alone. No other host sees them, whatever the registry says.
//
// Files that have changed are read again. A request fails if they cannot be read.
type Transport struct {
	origin string
	dirs   []string
	base   *http.Transport
	now    func() time.Time

	mu    sync.Mutex
	hosts map[string]*host
}

// host is what a Transport knows of a host. A host without a directory uses the base.
type host struct {
	files     string // what the directory had
	checked   time.Time
	transport *http.Transport
	err       error
}

// maxAge is the time after which a directory is looked at again.
const maxAge = 10 * time.Second

// NewTransport returns a transport for the registry at a host, such as "registry.example:5000".
// The error says that it is no host.
func NewTransport(registry string, opts *Options) (*Transport, error) {
	if !isHost(registry) {
		return nil, fmt.Errorf("%q is not a host", registry)
	}
	if opts == nil {
		opts = &Options{}
	}
	t := &Transport{origin: withPort(registry), dirs: opts.Dirs, base: opts.Transport, now: time.Now, hosts: make(map[string]*host)}
	if t.dirs == nil {
		t.dirs = DefaultDirs()
	}
	if t.base == nil {
		t.base = http.DefaultTransport.(*http.Transport)
	}
	t.base = t.base.Clone()
	return t, nil
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	transport, err := t.to(req.URL)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	return transport.RoundTrip(req)
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.base.CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.hosts {
		h.close()
	}
}

// to returns the transport for requests to a URL.
func (t *Transport) to(u *url.URL) (*http.Transport, error) {
	// What is no host must not become a path.
	if u.Scheme != "https" || !isHost(u.Host) {
		return t.base, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[u.Host]
	if h == nil {
		h = new(host)
		t.hosts[u.Host] = h
	}
	if now := t.now(); h.checked.IsZero() || now.Sub(h.checked) >= maxAge {
		h.checked = now
		t.look(u.Host, h)
	}
	switch {
	case h.err != nil:
		return nil, fmt.Errorf("certificates for %s: %w", u.Host, h.err)
	case h.transport != nil:
		return h.transport, nil
	}
	return t.base, nil
}

// look reads the directory of a host, if it has changed.
func (t *Transport) look(name string, h *host) {
	d, err := findDirectory(t.dirs, name)
	if err == nil && h.err == nil && d.files() == h.files {
		return
	}
	h.close()
	h.files, h.transport, h.err = d.files(), nil, err
	if err != nil || d == nil {
		return
	}
	config, err := d.config(t.base.TLSClientConfig, withPort(name) == t.origin)
	if err != nil {
		h.err = err
		return
	}
	h.transport = t.base.Clone()
	h.transport.TLSClientConfig = config
	if len(config.Certificates) > 0 {
		h.transport.Proxy = withoutTLS(t.base.Proxy)
	}
}

// withoutTLS returns proxy, but fails for proxies with TLS: they would be offered the
// certificates of the client.
func withoutTLS(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	if proxy == nil {
		return nil
	}
	return func(req *http.Request) (*url.URL, error) {
		u, err := proxy(req)
		if err == nil && u != nil && u.Scheme == "https" {
			return nil, errors.New("a proxy with TLS would be offered the certificate of the client")
		}
		return u, err
	}
}

func (h *host) close() {
	if h.transport != nil {
		h.transport.CloseIdleConnections()
	}
}

// isHost reports whether s is a host. In a URL, a name needs no period.
func isHost(s string) bool { return ociref.IsValidHost(s) || ociref.IsValidHost(s+":443") }
