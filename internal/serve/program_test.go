package serve

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/locked"
)

// start runs the program until the test ends, and returns the URL it prints.
func start(t *testing.T, args ...string) (url string, log *locked.Buffer, stop func() int) {
	return startWith(t, Program{}, args...)
}

// startWith is start with a program that can do more.
func startWith(t *testing.T, p Program, args ...string) (url string, log *locked.Buffer, stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	log = new(locked.Buffer)
	status := make(chan int, 1)
	go func() {
		status <- p.Run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), in, log)
		in.Close()
	}()
	first, err := bufio.NewReader(out).ReadString('\n')
	qt.Assert(t, qt.IsNil(err), qt.Commentf("log: %s", log))
	go io.Copy(io.Discard, out)
	url = strings.TrimSuffix(regexp.MustCompile(`https?://\S+`).FindString(first), "/")
	stop = sync.OnceValue(func() int {
		cancel()
		return <-status
	})
	t.Cleanup(func() { stop() })
	return url, log, stop
}

func TestServesAndStops(t *testing.T) {
	t.Parallel()
	url, log, stop := start(t)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Post(url+"/foo/blobs/uploads/?digest=sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "", strings.NewReader("foo"))
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusCreated))
	resp, err = client.Get(url + "/foo/blobs/sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
	qt.Assert(t, qt.IsNil(err))
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(string(body), "foo"))
	qt.Assert(t, qt.Equals(stop(), 0))
	qt.Assert(t, qt.StringContains(log.String(), "method=POST path=/v2/foo/blobs/uploads/"))
	qt.Assert(t, qt.Matches(log.String(), `(?s).*method=GET path=/v2/foo/blobs/sha256:\S+ query="" status=200 bytes=3 .*`))
	_, err = client.Get(url)
	qt.Assert(t, qt.IsNotNil(err))
}

func TestAllowOrigin_NamesOriginsOfPages(t *testing.T) {
	t.Parallel()
	url, _, _ := start(t, "-allow-origin", "https://ui.example.com", "-allow-origin", "http://localhost:8080")
	for origin, want := range map[string]string{
		"https://ui.example.com":   "https://ui.example.com",
		"http://localhost:8080":    "http://localhost:8080",
		"https://evil.example.com": "",
	} {
		req, err := http.NewRequest("GET", url+"/", nil)
		qt.Assert(t, qt.IsNil(err))
		req.Header.Set("Origin", origin)
		resp, err := http.DefaultClient.Do(req)
		qt.Assert(t, qt.IsNil(err))
		resp.Body.Close()
		qt.Check(t, qt.Equals(resp.Header.Get("Access-Control-Allow-Origin"), want))
	}
}

func TestLogRequests_HasNoUploadIDAndNothingLong(t *testing.T) {
	t.Parallel()
	tests := []struct{ path, want string }{
		{"/v2/foo/blobs/uploads/c2VjcmV0?digest=x", `method=GET path=/v2/foo/blobs/uploads/… query="digest=x" status=418 bytes=5 duration=`},
		{"/v2/" + strings.Repeat("x", 600), `method=GET path=/v2/` + strings.Repeat("x", 508) + `… query=""`},
		{"/cut", `path=/cut query="" status=418 bytes=5 .* cutoff=true`},
	}
	for _, test := range tests {
		var log bytes.Buffer
		h := logRequests(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, "short")
			if req.URL.Path == "/cut" {
				panic(http.ErrAbortHandler)
			}
		}), slog.New(slog.NewTextHandler(&log, nil)))
		func() {
			defer func() { qt.Check(t, qt.Equals(recover() != nil, test.path == "/cut")) }()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", test.path, nil))
		}()
		qt.Check(t, qt.Matches(log.String(), `(?s).*`+test.want+`.*`))
		qt.Check(t, qt.Not(qt.StringContains(log.String(), "c2VjcmV0")))
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, _, stop := start(t, "-quiet", "-dir", dir)
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute, DisableKeepAlives: true}}
	body, writer := io.Pipe()
	req, err := http.NewRequest("POST", url+"/foo/blobs/uploads/?digest=sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", body)
	qt.Assert(t, qt.IsNil(err))
	req.Header.Set("Expect", "100-continue")
	answer := make(chan int, 1)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			answer <- 0
			return
		}
		resp.Body.Close()
		answer <- resp.StatusCode
	}()
	// The client takes this when the server has said "100 Continue": then the
	// request is under way.
	io.WriteString(writer, "fo")
	stopped := make(chan int, 1)
	go func() { stopped <- stop() }()
	io.WriteString(writer, "o")
	writer.Close()
	qt.Assert(t, qt.Equals(<-answer, http.StatusCreated))
	qt.Assert(t, qt.Equals(<-stopped, 0))
	// The registry was closed after that.
	data, err := os.ReadFile(filepath.Join(dir, "foo/blobs/sha256/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(data), "foo"))
}

func TestQuietLogsNothingForGoodRequests(t *testing.T) {
	t.Parallel()
	url, log, stop := start(t, "-quiet")
	resp, err := http.Get(url + "/foo/tags/list")
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusNotFound))
	qt.Assert(t, qt.Equals(stop(), 0))
	qt.Assert(t, qt.Equals(log.String(), ""))
}

func TestBadUsage_IsReported(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	qt.Assert(t, qt.IsNil(err))
	defer taken.Close()
	tests := []struct {
		args   string
		status int
		want   string
	}{
		{"-addr " + taken.Addr().String(), 1, "ociserve: " + taken.Addr().String() + " is in use by another program; choose another address with -addr\n"},
		{"-addr nonsense", 2, "ociserve: -addr \"nonsense\" is not of the form host:port\nRun 'ociserve -help' for usage.\n"},
		{"-nonsense", 2, "ociserve: flag provided but not defined: -nonsense\nRun 'ociserve -help' for usage.\n"},
		{"-allow-origin ui.example.com", 2, "ociserve: invalid value \"ui.example.com\" for flag -allow-origin: it is not an origin such as https://ui.example.com\nRun 'ociserve -help' for usage.\n"},
		{"-allow-origin https://ui.example.com/", 2, "ociserve: invalid value \"https://ui.example.com/\" for flag -allow-origin: it is not an origin such as https://ui.example.com\nRun 'ociserve -help' for usage.\n"},
		{"-max-bytes -1", 2, "ociserve: -max-bytes cannot be negative\nRun 'ociserve -help' for usage.\n"},
		{"-max-bytes x", 2, "ociserve: invalid value \"x\" for flag -max-bytes: parse error\nRun 'ociserve -help' for usage.\n"},
		{"-mem=false", 2, "ociserve: -mem=false leaves nothing to serve\nRun 'ociserve -help' for usage.\n"},
		{"dir", 2, "ociserve: unexpected argument \"dir\"\nRun 'ociserve -help' for usage.\n"},
		{"-dir=", 2, "ociserve: -dir needs a path\nRun 'ociserve -help' for usage.\n"},
		{"-layout=", 2, "ociserve: -layout needs a path\nRun 'ociserve -help' for usage.\n"},
		{"-dir x -layout y", 2, "ociserve: -dir and -layout exclude each other\nRun 'ociserve -help' for usage.\n"},
		{"-mem -dir x", 2, "ociserve: -mem excludes -dir, -layout and -proxy\nRun 'ociserve -help' for usage.\n"},
		{"-mem -layout x", 2, "ociserve: -mem excludes -dir, -layout and -proxy\nRun 'ociserve -help' for usage.\n"},
		{"-repo x", 2, "ociserve: -repo is for -layout\nRun 'ociserve -help' for usage.\n"},
		{"-repo x -dir y", 2, "ociserve: -repo is for -layout\nRun 'ociserve -help' for usage.\n"},
		{"-layout x -repo X", 2, "ociserve: -repo \"X\" is not a repository name\nRun 'ociserve -help' for usage.\n"},
		{"-layout x/Y", 2, "ociserve: -layout \"x/Y\": \"Y\" is not a repository name; give one with -repo\nRun 'ociserve -help' for usage.\n"},
		{"-read-only", 2, "ociserve: -read-only is for -dir, -layout and -proxy\nRun 'ociserve -help' for usage.\n"},
		{"-no-sync", 2, "ociserve: -no-sync is for -dir and -layout\nRun 'ociserve -help' for usage.\n"},
		{"-proxy x -dir y", 2, "ociserve: -proxy excludes -dir and -layout\nRun 'ociserve -help' for usage.\n"},
		{"-proxy x -mem", 2, "ociserve: -mem excludes -dir, -layout and -proxy\nRun 'ociserve -help' for usage.\n"},
		{"-proxy x -sparse", 2, "ociserve: -sparse, -immutable and -max-bytes are not for -proxy\nRun 'ociserve -help' for usage.\n"},
		{"-proxy x -max-uploads 3", 2, "ociserve: -max-uploads is not for -proxy and -cache\nRun 'ociserve -help' for usage.\n"},
		{"-dir x -max-uploads 0", 2, "ociserve: -max-uploads cannot be 0\nRun 'ociserve -help' for usage.\n"},
		{"-verify-reads", 2, "ociserve: -verify-reads is for -dir and -layout, without -cache\nRun 'ociserve -help' for usage.\n"},
		{"-cache x -dir y -verify-reads", 2, "ociserve: -verify-reads is for -dir and -layout, without -cache\nRun 'ociserve -help' for usage.\n"},
		{"-proxy x -no-sync", 2, "ociserve: -no-sync is for -dir and -layout\nRun 'ociserve -help' for usage.\n"},
		{"-proxy=", 2, "ociserve: invalid value \"\" for flag -proxy: it is not a host\nRun 'ociserve -help' for usage.\n"},
		{"-proxy http://x/y", 2, "ociserve: invalid value \"http://x/y\" for flag -proxy: it is not a host\nRun 'ociserve -help' for usage.\n"},
		{"-cache x -proxy y", 2, "ociserve: -cache excludes -proxy and -layout\nRun 'ociserve -help' for usage.\n"},
		{"-cache x -layout y", 2, "ociserve: -cache excludes -proxy and -layout\nRun 'ociserve -help' for usage.\n"},
		{"-cache x -immutable", 2, "ociserve: -sparse, -immutable and -read-only are not for -cache\nRun 'ociserve -help' for usage.\n"},
		{"-cache x/y", 2, "ociserve: invalid value \"x/y\" for flag -cache: it is not a host\nRun 'ociserve -help' for usage.\n"},
		{"-mirror x -dir y", 2, "ociserve: -mirror is for -cache\nRun 'ociserve -help' for usage.\n"},
		{"-whole all", 2, "ociserve: -whole is for -cache\nRun 'ociserve -help' for usage.\n"},
		{"-cache x -whole linux", 2, "ociserve: invalid value \"linux\" for flag -whole: platform \"linux\" is not of the form OS/ARCHITECTURE[/VARIANT]\nRun 'ociserve -help' for usage.\n"},
		{"-cache x -mirror=", 2, "ociserve: -mirror needs a file\nRun 'ociserve -help' for usage.\n"},
		{"-dir x -no-sync -read-only", 2, "ociserve: -no-sync and -read-only exclude each other\nRun 'ociserve -help' for usage.\n"},
	}
	for _, test := range tests {
		var stdout, stderr bytes.Buffer
		qt.Check(t, qt.Equals(Program{}.Run(context.Background(), strings.Fields(test.args), &stdout, &stderr), test.status), qt.Commentf("%s", test.args))
		qt.Check(t, qt.Equals(stderr.String(), test.want))
		qt.Check(t, qt.Equals(stdout.String(), ""))
	}
	var stdout, stderr bytes.Buffer
	qt.Check(t, qt.Equals(Program{}.Run(context.Background(), []string{"-help"}, &stdout, &stderr), 0))
	qt.Check(t, qt.StringContains(stderr.String(), "-addr host:port"))
}

func TestGreeting_TellsHowToPush(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args, first string
		push        string // something in the rest; if empty, nothing about pushing is
	}{
		{"", "Serving memory on http://h:1/v2/", "skopeo copy --dest-tls-verify=false docker://alpine:latest docker://h:1/alpine:latest"},
		{"-dir some/where", "Serving the directory some/where on http://h:1/v2/", "docker push h:1/alpine:latest"},
		{"-dir some/where -read-only", "Serving the directory some/where on http://h:1/v2/", ""},
		{"-layout some/where", "Serving the image layout some/where as where on http://h:1/v2/", "docker push h:1/where:latest"},
		{"-proxy registry.example", "Serving the registry registry.example on http://h:1/v2/", "docker push h:1/alpine:latest"},
		{"-proxy http://r:5000 -read-only", "Serving the registry r:5000 on http://h:1/v2/", ""},
		{"-cache registry.example -dir some/where", "Serving a cache of registry.example in the directory some/where on http://h:1/v2/", ""},
		{"-dir some/where -web=false", "Serving the directory some/where on http://h:1/v2/", "docker push h:1/alpine:latest"},
		{"-cache http://r:5000", "Serving a cache of r:5000 in memory on http://h:1/v2/", ""},
		{"-layout some/where -repo a/b", "Serving the image layout some/where as a/b on http://h:1/v2/", "oras push --plain-http h:1/a/b:notes"},
	}
	for _, test := range tests {
		cfg, err := Program{}.parseFlags(strings.Fields(test.args), io.Discard)
		qt.Assert(t, qt.IsNil(err))
		var out bytes.Buffer
		cfg.site.addr = "h:0"
		greet(&out, cfg, &net.TCPAddr{Port: 1}, false)
		first, rest, _ := strings.Cut(out.String(), "\n")
		qt.Check(t, qt.Equals(first, test.first))
		qt.Check(t, qt.StringContains(rest, "curl http://h:1/v2/_catalog"))
		qt.Check(t, qt.Equals(strings.HasSuffix(rest, "Look at it with a browser:\n  http://h:1/\n\n"), !strings.Contains(test.args, "-web=false")))
		if test.push != "" {
			qt.Check(t, qt.StringContains(rest, test.push))
		} else {
			qt.Check(t, qt.Not(qt.StringContains(rest, "Push")))
			qt.Check(t, qt.Equals(strings.Contains(rest, "crane pull h:1/"), strings.HasPrefix(test.args, "-cache")))
		}
	}
}

func TestGreeting_TellsUsersToLogIn(t *testing.T) {
	t.Parallel()
	for _, users := range []bool{true, false} {
		var out bytes.Buffer
		greet(&out, config{site: site{addr: "h:0"}}, &net.TCPAddr{Port: 1}, users)
		qt.Check(t, qt.Equals(strings.Contains(out.String(), "  docker login h:1\n"), users))
		qt.Check(t, qt.Equals(strings.Contains(out.String(), "  curl -u USER http://h:1/v2/_catalog\n"), users))
	}
}

// Few clients can use a socket in the file system, and none takes its path for a host.
func TestGreeting_OfASocketTellsItsPath(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	greet(&out, config{site: site{prefix: "/registry", web: true}}, &net.UnixAddr{Net: "unix", Name: "/run/oci.sock"}, false)
	qt.Check(t, qt.Equals(out.String(), "Serving memory on /run/oci.sock\n\nList what it has:\n  curl --unix-socket /run/oci.sock http://localhost/registry/v2/_catalog\n\n"))
}

func TestRecorderCountsEveryWayToWrite(t *testing.T) {
	t.Parallel()
	answer := httptest.NewRecorder()
	rec := &recorder{ResponseWriter: answer}
	for _, write := range []func() error{
		func() error { _, err := rec.Write([]byte("abc")); return err },
		func() error { _, err := rec.WriteString("de"); return err },
		func() error { _, err := rec.ReadFrom(strings.NewReader("f")); return err },
	} {
		qt.Assert(t, qt.IsNil(write()))
	}
	qt.Check(t, qt.Equals(rec.bytes, 6))
	qt.Check(t, qt.Equals(answer.Body.String(), "abcdef"))
}
