package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"sync"
	"time"

	objectservers "github.com/seed-40b21970/oci/internal/servers"
)

// store is object storage, in which each server has a bucket: versitygw behind
// a proxy that counts requests and may slow them down. The proxy is in this
// process, and so takes no CPU time of the servers.
type store struct {
	dir   string // has the buckets, as directories
	url   string // of the proxy
	stop  func() // ends versitygw
	proxy *http.Server

	mu      sync.Mutex
	delay   time.Duration
	traffic traffic
}

// traffic is what went through the proxy.
type traffic struct {
	requests map[string]int // by what they are
	bytes    int64          // of bodies, both ways
}

// storeProgram is what must be in PATH.
const storeProgram = "versitygw"

// haveStore returns an error that says what to do if there can be no store.
func haveStore() error {
	if _, err := exec.LookPath(storeProgram); err != nil {
		return errors.New(storeProgram + " is not in PATH: internal/servers/install.sh installs it")
	}
	return nil
}

func openStore(parent string) (*store, error) {
	dir, err := os.MkdirTemp(parent, "bench-store-")
	if err != nil {
		return nil, err
	}
	s := &store{dir: dir}
	socket, stop, err := objectservers.RunVersitygw(dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	s.stop = stop
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.url = "http://" + l.Addr().String()
	s.proxy = &http.Server{Handler: s.handler(socket)}
	go s.proxy.Serve(l)
	return s, nil
}

func (s *store) close() error {
	var err error
	if s.proxy != nil {
		err = s.proxy.Close()
	}
	s.stop()
	return errors.Join(err, os.RemoveAll(s.dir))
}

// handler returns the proxy to the server at a socket. It leaves Host as it is,
// since that is signed.
func (s *store) handler(socket string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			s.count(kindOf(r.In))
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", storeProgram, r.In.Host
			if r.Out.Body != nil && r.Out.Body != http.NoBody {
				r.Out.Body = counted{r.Out.Body, s}
			}
		},
		ModifyResponse: func(resp *http.Response) error {
			resp.Body = counted{resp.Body, s}
			s.mu.Lock()
			delay := s.delay
			s.mu.Unlock()
			time.Sleep(delay)
			return nil
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
			MaxIdleConnsPerHost: 1000,
			DisableCompression:  true,
		},
		BufferPool: buffers{},
	}
}

// kindOf says what a request is, as stores charge for them.
func kindOf(req *http.Request) string {
	query := req.URL.Query()
	switch {
	case req.Method == http.MethodGet && (query.Has("list-type") || query.Has("uploads") || query.Has("uploadId")):
		return "LIST"
	case req.Header.Get("X-Amz-Copy-Source") != "":
		return "COPY"
	}
	return req.Method
}

func (s *store) count(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.traffic.requests == nil {
		s.traffic.requests = make(map[string]int)
	}
	s.traffic.requests[kind]++
}

// reset returns what was counted, and begins anew. From now on each request waits
// for delay before it is answered.
func (s *store) reset(delay time.Duration) traffic {
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := s.traffic
	s.traffic, s.delay = traffic{}, delay
	return counted
}

// counted counts the bytes of a body.
type counted struct {
	io.ReadCloser
	store *store
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.traffic.bytes += int64(n)
	return n, err
}

// buffers are those of the proxy.
type buffers struct{}

const proxyBuffer = 256 << 10

var proxyBuffers = sync.Pool{New: func() any { return new([proxyBuffer]byte) }}

func (buffers) Get() []byte  { return proxyBuffers.Get().(*[proxyBuffer]byte)[:] }
func (buffers) Put(b []byte) { proxyBuffers.Put((*[proxyBuffer]byte)(b)) }
