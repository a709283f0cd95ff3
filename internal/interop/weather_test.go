package interop

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// weather is what becomes of all requests to an origin.
type weather string

const (
	fair        weather = "fair"                // they are answered
	stalled     weather = "stalled"             // there is no answer
	halfStalled weather = "stalled in the body" // half of the body comes, and no more
	refused     weather = "refused"             // connections are closed at once
	reset       weather = "reset"               // requests are read, and connections reset
	cutOff      weather = "cut off"             // half of the body comes, then the connection breaks
	shortened   weather = "shortened"           // half of the body comes, with a length that fits
	forged      weather = "forged"              // one byte is another
	loginPage   weather = "login page"          // all that is asked for is a page
	errorObject weather = "error object"        // the same, in JSON, with status 200
	blank       weather = "blank"               // 200 and nothing
	failing     weather = "failing"             // 429, 500, 502, 503
	slow        weather = "slow"                // 256 KiB a second
)

// foul has all weathers but the fair one.
var foul = []weather{stalled, halfStalled, refused, reset, cutOff, shortened, forged, loginPage, errorObject, blank, failing, slow}

// origin is a registry in changing weather.
type origin struct {
	*httptest.Server
	reg     ociregistry.Interface
	handler http.Handler

	mu      sync.Mutex
	now     weather
	since   time.Time
	changed chan struct{} // closed when the weather changes
}

func startOrigin(t *testing.T) *origin {
	reg := ocimem.New()
	o := &origin{reg: reg, handler: ociserver.New(reg, nil), now: fair, changed: make(chan struct{})}
	o.Server = httptest.NewUnstartedServer(o)
	o.Listener = refusing{o.Listener, o}
	o.Start()
	t.Cleanup(func() {
		o.turn(fair)
		o.CloseClientConnections()
		o.Close()
	})
	return o
}

// turn changes the weather, which ends what is under way.
func (o *origin) turn(w weather) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.now, o.since, o.changed = w, time.Now(), make(chan struct{})
	if w == refused {
		o.CloseClientConnections()
	}
}

// look returns the weather, and what is closed when it ends.
func (o *origin) look() (weather, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now, o.changed
}

// refusing is a listener which accepts nothing while the weather says so.
type refusing struct {
	net.Listener
	origin *origin
}

func (l refusing) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if w, _ := l.origin.look(); w != refused {
			return conn, nil
		}
		conn.Close()
	}
}

func (o *origin) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now, changed := o.look()
	wait := func() {
		select {
		case <-changed:
		case <-req.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}
	switch now {
	case fair:
		o.handler.ServeHTTP(w, req)
		return
	case stalled:
		wait()
	case refused:
		panic(http.ErrAbortHandler)
	case reset:
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
		return
	case loginPage:
		answer(w, http.StatusOK, "text/html; charset=utf-8", "<!DOCTYPE html><title>Sign in</title><form></form>\n")
		return
	case errorObject:
		answer(w, http.StatusOK, "application/json", `{"errors":[{"code":"UNAVAILABLE","message":"try again later"}]}`)
		return
	case blank:
		w.Header().Set("Content-Length", "0")
		return
	case failing:
		statuses := []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable}
		answer(w, statuses[rand.N(len(statuses))], "text/plain", "not now\n")
		return
	}
	o.spoil(w, req, now, wait)
}

func answer(w http.ResponseWriter, status int, contentType, body string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// spoil answers a request right, but for the body.
func (o *origin) spoil(w http.ResponseWriter, req *http.Request, now weather, wait func()) {
	rec := httptest.NewRecorder()
	o.handler.ServeHTTP(rec, req)
	body := rec.Body.Bytes()
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	if now == shortened && len(body) > 0 {
		body = body[:len(body)/2]
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	}
	w.WriteHeader(rec.Code)
	half := body[:len(body)/2]
	switch now {
	case halfStalled:
		w.Write(half)
		http.NewResponseController(w).Flush()
		if len(body) > 0 {
			wait()
		}
	case cutOff:
		w.Write(half)
		if len(body) > 0 {
			panic(http.ErrAbortHandler)
		}
	case forged:
		forgery := bytes.Clone(body)
		if len(forgery) > 0 {
			forgery[len(forgery)/3] ^= 1
		}
		w.Write(forgery)
	case slow:
		trickle(w, req, body)
	default:
		w.Write(body)
	}
}

// trickle writes a body at 256 KiB a second.
func trickle(w http.ResponseWriter, req *http.Request, body []byte) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(body) > 0 {
		n, err := w.Write(body[:min(len(body), 25<<10)])
		if err != nil {
			return
		}
		body = body[n:]
		http.NewResponseController(w).Flush()
		select {
		case <-tick.C:
		case <-req.Context().Done():
			return
		}
	}
}

// host returns the origin's host and port.
func (o *origin) host() string { return strings.TrimPrefix(o.URL, "http://") }
