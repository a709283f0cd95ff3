package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// server is a running ociserve.
type server struct {
	host string // host:port
	log  string // the file that it logs to
	pid  int
	temp string // its directory for temporary files
	stop func() // interrupts it, if it is still running, and waits

	// redirects says that some bytes come from elsewhere, without the headers of a registry.
	redirects bool

	// warning is the beginning of warnings in the log that the test expects.
	warning string
}

// startServer runs an ociserve in memory until the test ends, when its log must
// have no request with a status other than success, 404 and those that are
// expected.
func startServer(t *testing.T, expected ...int) *server {
	t.Helper()
	return startServing(t, []string{"-mem"}, expected...)
}

// startProxy is like startServer, for one that is reached by a proxy. The log is
// the proxy's.
func startProxy(t *testing.T, expected ...int) *server {
	t.Helper()
	origin := startServer(t, expected...)
	return startServing(t, []string{"-proxy", "http://" + origin.host}, expected...)
}

// clientClosed is the status in the log of a request that its client did not wait
// for, which is the client's affair.
const clientClosed = 499

// startServing is like startServer, for what the arguments say.
func startServing(t *testing.T, args []string, expected ...int) *server {
	t.Helper()
	s := launch(t, args)
	t.Cleanup(func() { s.checkRequests(t, expected...) })
	return s
}

// checkRequests stops the server, and checks that its log has no request that failed otherwise than
// expected.
func (s *server) checkRequests(t *testing.T, expected ...int) {
	s.stop()
	for _, r := range s.requests(t) {
		if r.status >= 400 && r.status != http.StatusNotFound && r.status != clientClosed && !slices.Contains(expected, r.status) {
			t.Errorf("request failed: %+v", r)
		}
	}
}

// launch runs an ociserve until the test ends, whatever its log says then.
func launch(t *testing.T, args []string) *server {
	t.Helper()
	return launchProgram(t, ociserve, nil, args)
}

// launchProgram is launch for another program that has the flags of ociserve, with more in its environment.
func launchProgram(t *testing.T, program string, env, args []string) *server {
	t.Helper()
	s := &server{log: filepath.Join(t.TempDir(), "log"), temp: t.TempDir()}
	// A file, rather than a pipe: what the server has logged before it
	// answered is there when the client has the answer.
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(append(os.Environ(), "TMPDIR="+s.temp), env...)
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	greeting := bufio.NewReader(stdout)
	line, err := greeting.ReadString('\n')
	_, address, _ := strings.Cut(line, " on http://")
	s.host, _, _ = strings.Cut(address, "/")
	if err != nil || s.host == "" {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("ociserve printed %q, and failed: %s", line, readFile(t, s.log))
	}
	go io.Copy(io.Discard, greeting)
	s.pid = cmd.Process.Pid
	s.stop = sync.OnceFunc(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("ociserve: %v", err)
		}
	})
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			log := readFile(t, s.log)
			t.Logf("the last of the log of ociserve:\n%s", log[max(0, len(log)-10_000):])
		}
	})
	return s
}

// repo returns what clients call a repository or, with a tag or digest in the
// name, something in it.
func (s *server) repo(name string) string { return s.host + "/" + name }

// request is a request that was answered.
type request struct {
	method, path string
	query        url.Values
	status       int
	bytes        int64 // of the answer's body
}

// requests returns what was logged.
func (s *server) requests(t testing.TB) []request {
	t.Helper()
	var requests []request
	for line := range strings.Lines(string(readFile(t, s.log))) {
		if !strings.HasSuffix(line, "\n") {
			break // it is just being written
		}
		fields, err := parseLogLine(line)
		if err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		// Where warnings are expected, the status of a request says whether it may fail.
		expected := s.warning != "" && (strings.HasPrefix(fields["msg"], s.warning) || fields["msg"] == "request failed")
		if level := fields["level"]; level != "INFO" && !expected {
			t.Errorf("ociserve had a problem: %s", line)
		}
		if fields["msg"] != "request" {
			continue
		}
		r := request{method: fields["method"], path: fields["path"]}
		r.query, _ = url.ParseQuery(fields["query"])
		if r.status, err = strconv.Atoi(fields["status"]); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if r.bytes, err = strconv.ParseInt(fields["bytes"], 10, 64); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		requests = append(requests, r)
	}
	return requests
}

// parseLogLine parses a line of slog's text format.
func parseLogLine(line string) (map[string]string, error) {
	fields := make(map[string]string)
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimPrefix(rest, " ") {
		key, value, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, fmt.Errorf("no key at %q", rest)
		}
		if !strings.HasPrefix(value, `"`) {
			fields[key], rest, _ = strings.Cut(value, " ")
			continue
		}
		quoted, err := strconv.QuotedPrefix(value)
		if err != nil {
			return nil, err
		}
		rest = value[len(quoted):]
		if fields[key], err = strconv.Unquote(quoted); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

// checkMounted checks that blobs came into repo by being mounted from another
// repository, and not by an upload.
func (s *server) checkMounted(t testing.TB, repo string, digests ...string) {
	t.Helper()
	mounted := make(map[string]bool)
	for _, r := range s.requests(t) {
		if !strings.HasPrefix(r.path, "/v2/"+repo+"/blobs/uploads/") || r.status != http.StatusCreated {
			continue
		}
		if r.query.Has("mount") {
			mounted[r.query.Get("mount")] = true
		} else if slices.Contains(digests, r.query.Get("digest")) {
			t.Errorf("uploaded rather than mounted: %+v", r)
		}
	}
	for _, digest := range digests {
		if !mounted[digest] {
			t.Errorf("%s was not mounted to %s", digest, repo)
		}
	}
}

// push puts content into the server, without a client.
func (s *server) push(t testing.TB, repo, tag string, c content) {
	t.Helper()
	for digest, data := range c.blobs {
		if !slices.Contains(c.manifests(), digest) {
			s.put(t, http.MethodPost, repo+"/blobs/uploads/?digest="+digest, "application/octet-stream", data)
		}
	}
	for _, desc := range c.order {
		s.put(t, http.MethodPut, repo+"/manifests/"+desc.Digest, desc.MediaType, c.blobs[desc.Digest])
	}
	s.put(t, http.MethodPut, repo+"/manifests/"+c.root.Digest+"?tag="+tag, c.root.MediaType, c.blobs[c.root.Digest])
}

// pushTags tags a manifest more often than a page of a list has room for, and
// returns the tags in order.
func (s *server) pushTags(t testing.TB, repo string) []string {
	t.Helper()
	c := newArtifact(t, nil, "tagged\n")
	var tags []string
	for i := range 1100 {
		tags = append(tags, fmt.Sprintf("tag%04d", i))
	}
	s.push(t, repo, tags[0], c)
	for more := range slices.Chunk(tags[1:], 100) {
		query := url.Values{"tag": more}.Encode()
		s.put(t, http.MethodPut, repo+"/manifests/"+c.root.Digest+"?"+query, c.root.MediaType, c.blobs[c.root.Digest])
	}
	return tags
}

func (s *server) put(t testing.TB, method, path, contentType string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.host+"/v2/"+path, strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if _, body := s.do(t, req, http.StatusCreated); len(body) != 0 {
		t.Errorf("%s %s: body %q", method, path, body)
	}
}

// check checks by plain HTTP that repo holds content under a tag.
func (s *server) check(t testing.TB, repo, tag string, c content) {
	t.Helper()
	s.checkManifest(t, repo, tag, c.root, c.blobs[c.root.Digest])
	for _, desc := range c.order {
		s.checkManifest(t, repo, desc.Digest, desc, c.blobs[desc.Digest])
	}
	for digest, want := range c.blobs {
		if slices.Contains(c.manifests(), digest) {
			continue
		}
		header, got := s.get(t, repo+"/blobs/"+digest)
		checkBytes(t, repo+"@"+digest, got, want)
		if got := header.Get("Docker-Content-Digest"); got != digest && !(s.redirects && got == "") {
			t.Errorf("%s@%s: Docker-Content-Digest: %q", repo, digest, got)
		}
	}
}

func (s *server) checkManifest(t testing.TB, repo, ref string, desc descriptor, want []byte) {
	t.Helper()
	header, got := s.get(t, repo+"/manifests/"+ref)
	checkBytes(t, repo+" "+ref, got, want)
	if got := header.Get("Content-Type"); got != desc.MediaType {
		t.Errorf("%s %s: Content-Type: %q, want %q", repo, ref, got, desc.MediaType)
	}
	if got := header.Get("Docker-Content-Digest"); got != desc.Digest {
		t.Errorf("%s %s: Docker-Content-Digest: %q, want %q", repo, ref, got, desc.Digest)
	}
}

// files returns the files in an image that the server has, after it checked the
// digests of all its parts.
func (s *server) files(t testing.TB, repo, ref string) map[string][]byte {
	t.Helper()
	header, body := s.get(t, repo+"/manifests/"+ref)
	if got := header.Get("Docker-Content-Digest"); got != sha256Digest(body) {
		t.Errorf("%s %s: digest %s, want %s", repo, ref, got, sha256Digest(body))
	}
	var m manifest
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("%s %s: %v in %s", repo, ref, err, body)
	}
	var cfg config
	if err := json.Unmarshal(s.blob(t, repo, m.Config), &cfg); err != nil {
		t.Fatalf("%s %s: %v in the config", repo, ref, err)
	}
	if len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		t.Fatalf("%s %s: %d diff IDs for %d layers", repo, ref, len(cfg.RootFS.DiffIDs), len(m.Layers))
	}
	files := make(map[string][]byte)
	for i, layer := range m.Layers {
		archive := s.blob(t, repo, &layer)
		if strings.HasSuffix(layer.MediaType, "gzip") {
			archive = decompress(t, archive)
		}
		if got, want := sha256Digest(archive), cfg.RootFS.DiffIDs[i]; got != want {
			t.Errorf("%s %s: layer %d has diff ID %s, want %s", repo, ref, i, got, want)
		}
		maps.Copy(files, untar(t, archive))
	}
	return files
}

// blob returns a blob that has the digest and size that desc says.
func (s *server) blob(t testing.TB, repo string, desc *descriptor) []byte {
	t.Helper()
	_, data := s.get(t, repo+"/blobs/"+desc.Digest)
	if sha256Digest(data) != desc.Digest || int64(len(data)) != desc.Size {
		t.Errorf("%s: got %d bytes of digest %s, want %+v", repo, len(data), sha256Digest(data), *desc)
	}
	return data
}

// checkGone checks that a manifest is no longer there.
func (s *server) checkGone(t testing.TB, repo, ref string) {
	t.Helper()
	s.send(t, http.MethodGet, repo+"/manifests/"+ref, http.StatusNotFound)
}

// get gets a path below /v2/.
func (s *server) get(t testing.TB, path string) (http.Header, []byte) {
	t.Helper()
	return s.send(t, http.MethodGet, path, http.StatusOK)
}

// send sends a request without a body, for a path below /v2/, whose answer must
// have the given status.
func (s *server) send(t testing.TB, method, path string, status int) (http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.host+"/v2/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s.do(t, req, status)
}

// do sends a request whose answer must have the given status.
func (s *server) do(t testing.TB, req *http.Request, status int) (http.Header, []byte) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s %s: status %s, want %d: %.1000q", req.Method, req.URL, resp.Status, status, body)
	}
	return resp.Header, body
}
