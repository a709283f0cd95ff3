package ociserver_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociserver"
)

// stallEnv makes this program the server of TestStalledBodiesCostLittle. Its value has the
// kind of the backend, its directory, and the timeout of a body.
const stallEnv = "OCISERVER_STALL"

// TestStalledBodiesCostLittle sends bodies that stall, at once or after some bytes, to a
// separate process. It checks that the bodies are answered, and the memory of that process.
// There are 40 bodies of each kind. With OCISERVER_FULL there are 2000, and the test checks when
// they are answered, and that other clients are not slowed down.
func TestStalledBodiesCostLittle(t *testing.T) {
	if spec := os.Getenv(stallEnv); spec != "" {
		serveStalled(t, spec)
		return
	}
	t.Parallel()
	bodies, limit, pulls, bar := 40, 500*time.Millisecond, 10, int64(40<<20)
	full := os.Getenv("OCISERVER_FULL") != ""
	if full {
		bodies, limit, pulls, bar = 2000, 20*time.Second, 300, 160<<20
	}
	origin := httptest.NewServer(ociserver.New(ocimem.New(), nil))
	t.Cleanup(origin.Close)
	for backend, where := range map[string]string{
		"ocimem": "", "ocifs": t.TempDir(), "proxy": strings.TrimPrefix(origin.URL, "http://"),
	} {
		t.Run(backend, func(t *testing.T) {
			if !full {
				t.Parallel()
			}
			for _, push := range pushes {
				method, path, _ := strings.Cut(push, " ")
				t.Run(method+" "+strings.Split(path, "/")[3], func(t *testing.T) {
					if !full {
						t.Parallel()
					}
					s := startStalled(t, fmt.Sprintf("%s %s %s", backend, limit, where))
					patience := *s
					patience.url += "/patient"
					blob := "/v2/foo/blobs/" + string(patience.pushBlob("foo", strings.Repeat(helloWorld, 100_000)))
					alone := s.medianPull(blob, pulls)
					s.do("GET", "/idle", "").want(t, http.StatusOK)
					start := time.Now()
					ended := s.stallAll(method, path, bodies)
					beside := s.medianPull(blob, pulls)
					ended()
					took := time.Since(start)
					var used int64
					_, err := fmt.Sscan(s.do("GET", "/used", "").want(t, http.StatusOK).body, &used)
					qt.Assert(t, qt.IsNil(err))
					t.Logf("%.1f MiB; the last ended after %s; a pull took %s beside them, and %s alone",
						float64(used)/(1<<20), took.Round(time.Millisecond), beside, alone)
					qt.Check(t, qt.IsTrue(raceDetector || used < bar))
					if full {
						qt.Check(t, qt.IsTrue(took < limit+20*time.Second))
						qt.Check(t, qt.IsTrue(float64(beside) < 1.2*float64(alone)))
					}
					s.close()
				})
			}
		})
	}
}

// stallAll begins requests and sends a part of each body. The returned function waits until
// all are answered, or are cut off because the client sends more than the server reads.
func (s *site) stallAll(method, path string, n int) (ended func()) {
	parts := []int{0, 1, 3000, 30_000}
	if strings.Contains(path, "manifests") {
		parts = []int{0, 1, 30_000, 3_000_000}
	}
	var answers sync.WaitGroup
	for i := range n {
		target := path
		if _, query, ok := strings.Cut(path, "/uploads/MQ"); ok {
			target = s.startUpload("foo") + query
		}
		conn := s.send(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n", method, target))
		answers.Go(func() {
			defer conn.Close()
			conn.Write(bytes.Repeat([]byte("x"), parts[i%len(parts)])) // or as much as the server takes
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			switch {
			case errors.Is(err, syscall.ECONNRESET):
			case err != nil:
				s.t.Error(err)
			case resp.StatusCode != http.StatusRequestTimeout && resp.StatusCode != http.StatusServiceUnavailable:
				s.t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	return answers.Wait
}

// medianPull pulls n times and returns the typical time. That is the best of several
// medians, because other programs run at the same time.
func (s *site) medianPull(path string, n int) time.Duration {
	best := time.Hour
	for range 3 {
		took := make([]time.Duration, n)
		for i := range took {
			start := time.Now()
			s.exchange("GET", path, nil, http.StatusOK)
			took[i] = time.Since(start)
		}
		slices.Sort(took)
		best = min(best, took[n/2])
	}
	return best
}

// startStalled starts this program as a server.
func startStalled(t *testing.T, spec string) *site {
	exe, err := os.Executable()
	qt.Assert(t, qt.IsNil(err))
	cmd := exec.Command(exe, "-test.run=^TestStalledBodiesCostLittle$")
	cmd.Env = append(os.Environ(), stallEnv+"="+spec)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	stdout, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	end := sync.OnceFunc(func() {
		stdin.Close()
		io.Copy(io.Discard, stdout)
		cmd.Wait()
	})
	t.Cleanup(end)
	url, err := bufio.NewReader(stdout).ReadString('\n')
	qt.Assert(t, qt.IsNil(err))
	return &site{t: t, url: strings.TrimSpace(url), client: &http.Client{Transport: &http.Transport{}}, close: end}
}

// serveStalled is the server. It ends at the end of its standard input.
func serveStalled(t *testing.T, spec string) {
	var kind, limit, where string
	fmt.Sscan(spec, &kind, &limit, &where)
	d, err := time.ParseDuration(limit)
	qt.Assert(t, qt.IsNil(err))
	var backend ociregistry.Interface = ocimem.New()
	switch kind {
	case "ocifs":
		reg, err := ocifs.New(where, &ocifs.Options{NoSync: true})
		qt.Assert(t, qt.IsNil(err))
		defer reg.Close()
		backend = reg
	case "proxy":
		backend, err = ociclient.New(where, &ociclient.Options{Insecure: true})
		qt.Assert(t, qt.IsNil(err))
	}
	var idle, most atomic.Int64
	mux := http.NewServeMux()
	mux.Handle("/", ociserver.New(backend, &ociserver.Options{ManifestTimeout: d, BlobTimeout: d}))
	mux.Handle("/patient/", http.StripPrefix("/patient", ociserver.New(backend, nil)))
	mux.HandleFunc("/idle", func(http.ResponseWriter, *http.Request) {
		debug.FreeOSMemory()
		idle.Store(memoryInUse())
		most.Store(idle.Load())
	})
	mux.HandleFunc("/used", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, most.Load()-idle.Load()) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	stop := make(chan struct{})
	var samples sync.WaitGroup
	samples.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most.Store(max(most.Load(), memoryInUse()))
			case <-stop:
				return
			}
		}
	})
	fmt.Println(srv.URL)
	io.Copy(io.Discard, os.Stdin)
	close(stop)
	samples.Wait()
}

// memoryInUse returns the number of bytes of memory of this process: the resident bytes, or
// if these are unknown, the bytes that the runtime has not returned to the system.
func memoryInUse() int64 {
	if data, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident int64
		if _, err := fmt.Sscan(string(data), &size, &resident); err == nil {
			return resident * int64(os.Getpagesize())
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}
