package ocifs_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociserver"
)

// serveEnv, in the environment of TestServerProcess, is the directory of the
// registry that it is to serve, for the test program that has started it.
const serveEnv = "OCIFS_TEST_SERVE"

// serverProcess is a server in a process of its own.
type serverProcess struct {
	*site
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

// startServer starts a server of the registry in dir. The wrapper is a program
// and arguments to run it by, or nothing.
func startServer(t testing.TB, dir string, wrapper ...string) *serverProcess {
	t.Helper()
	exe, err := os.Executable()
	qt.Assert(t, qt.IsNil(err))
	args := append(wrapper, exe, "-test.run=^TestServerProcess$")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	stdout, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	t.Cleanup(func() {
		stdin.Close() // at which it ends, below a wrapper too
		cmd.Wait()
	})
	p := &serverProcess{cmd: cmd, stdin: stdin, out: bufio.NewReader(stdout)}
	url, err := p.out.ReadString('\n')
	qt.Assert(t, qt.IsNil(err))
	p.site = newSite(t, strings.TrimSuffix(url, "\n"))
	return p
}

// stop ends the process, and returns what memory it has used.
func (p *serverProcess) stop() (u memoryUse) {
	p.Helper()
	p.stdin.Close()
	line, err := p.out.ReadBytes('\n')
	qt.Assert(p, qt.IsNil(err))
	qt.Assert(p, qt.IsNil(json.Unmarshal(line, &u)))
	_, err = io.Copy(io.Discard, p.out)
	qt.Assert(p, qt.IsNil(err))
	qt.Assert(p, qt.IsNil(p.cmd.Wait()))
	return u
}

// memoryUse is the most memory that a process used at a time, above what it used
// when it was idle, in bytes.
type memoryUse struct {
	Heap     int64 // objects, also those that have not been collected yet
	Resident int64 // 0 where that is not known
}

func TestServerProcess(t *testing.T) {
	if dir := os.Getenv(serveEnv); dir != "" {
		serveProcess(t, dir)
		return
	}
	t.Parallel()
	dir := scratch.Kept(t)
	p := startServer(t, dir)
	p.get("/v2/")
	text := []byte("text")
	p.must(http.StatusCreated, "POST", uploadsPath+"?digest="+string(describe(text).Digest), bytes.NewReader(text), int64(len(text)))
	qt.Check(t, qt.IsTrue(p.stop().Heap < 64<<20))
	wantBlob(t, openFixture(t, dir, "", ocifs.Options{}).Registry, "repo", text)
}

// serveProcess serves until its input ends.
func serveProcess(t *testing.T, dir string) {
	r, err := ocifs.New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	srv := httptest.NewServer(ociserver.New(r, nil))
	peak := watchMemory()
	fmt.Println(srv.URL)
	_, err = io.Copy(io.Discard, os.Stdin)
	qt.Assert(t, qt.IsNil(err))
	srv.Close()
	qt.Assert(t, qt.IsNil(r.Close()))
	qt.Assert(t, qt.IsNil(json.NewEncoder(os.Stdout).Encode(peak())))
}

// watchMemory takes the process to be idle now. The function that it returns says
// what was used since.
func watchMemory() func() memoryUse {
	debug.FreeOSMemory()
	resident := resetResident()
	heap := heapSize()
	var most atomic.Int64
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ticks := time.NewTicker(time.Millisecond)
		defer ticks.Stop()
		for {
			most.Store(max(most.Load(), heapSize()))
			select {
			case <-ticks.C:
			case <-done:
				return
			}
		}
	}()
	return func() memoryUse {
		close(done)
		<-stopped
		u := memoryUse{Heap: most.Load() - heap}
		if resident > 0 {
			u.Resident = residentPeak() - resident
		}
		return u
	}
}

func heapSize() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64())
}

// resetResident makes residentPeak count from now on, and returns what it is now,
// or 0 where that cannot be had: outside Linux, and under the race detector,
// which needs several times as much.
func resetResident() int64 {
	info, _ := debug.ReadBuildInfo()
	if info == nil || slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 0
	}
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return 0
	}
	return residentPeak()
}

// residentPeak returns the line VmHWM of proc(5), in bytes, or 0.
func residentPeak() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, line, _ := strings.Cut(string(text), "VmHWM:")
	line, _, _ = strings.Cut(line, "kB")
	kib, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
