package interop

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// nginxConfig has what the page about running ociserve says of nginx, and what a test needs.
const nginxConfig = `
%[5]s
daemon off;
worker_processes 1;
pid %[1]s/pid;
error_log %[1]s/error.log warn;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	upstream ociserve {
		server %[2]s;
		server %[3]s;
		keepalive 32;
	}
	server {
		listen %[4]s ssl http2;
		ssl_certificate %[1]s/cert.pem;
		ssl_certificate_key %[1]s/key.pem;
		client_max_body_size 0;
		location / {
			proxy_pass http://ociserve;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
			proxy_request_buffering off;
			proxy_buffering off;
			proxy_read_timeout 15m;
			proxy_send_timeout 15m;
		}
	}
}
`

// startNginx runs an nginx with TLS in front of two servers, which get its requests in turn, until
// the test ends. It returns the host of nginx. Nginx must have nothing to complain of, such as a
// body for which it needs a file.
func startNginx(t *testing.T, s1, s2 *server) (host string) {
	t.Helper()
	nginx := newClient(t, "nginx")
	certs, err := theAuthority()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(certs.server.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	nginx.writeFile(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certs.server.Certificate[0]}))
	nginx.writeFile(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = listener.Addr().String()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	listener.Close()
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // nobody else may look into the directories of tests
	}
	config := nginx.writeFile(t, "nginx.conf", fmt.Appendf(nil, nginxConfig, nginx.home, s1.host, s2.host, host, user))

	// Nginx takes over a socket that it inherits, so that the port is its own, and clients that
	// come before it accepts them wait.
	var said bytes.Buffer
	cmd := exec.Command(nginx.path, "-p", nginx.home, "-e", filepath.Join(nginx.home, "error.log"), "-c", config)
	cmd.Env = []string{"NGINX=3;"}
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		log := readFile(t, filepath.Join(nginx.home, "error.log"))
		for line := range bytes.Lines(log) {
			if !bytes.Contains(line, []byte("[notice]")) {
				t.Errorf("nginx: %s", line)
			}
		}
		if err != nil {
			t.Errorf("nginx: %v: %s", err, said.Bytes())
		}
	})
	return host
}

// TestNginx pushes and pulls behind nginx, as the page about running ociserve says how. Two
// processes, which serve one directory, have parts of each upload.
func TestNginx(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := startServing(t, []string{"-dir", dir}), startServing(t, []string{"-dir", dir})
	host := startNginx(t, first, second)
	certs, err := theAuthority()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: certs.roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	t.Run("a session stays behind it", func(t *testing.T) {
		content := []byte("some content")
		at := "https://" + host + "/v2/app/blobs/uploads/"
		for _, step := range []struct {
			method, query string
			body          []byte
			status        int
		}{
			{http.MethodPost, "", nil, http.StatusAccepted},
			{http.MethodPatch, "", content[:4], http.StatusAccepted},
			{http.MethodPatch, "", content[4:], http.StatusAccepted},
			{http.MethodPut, "?digest=" + sha256Digest(content), nil, http.StatusCreated},
			{http.MethodGet, "", nil, http.StatusOK},
		} {
			req, err := http.NewRequestWithContext(t.Context(), step.method, at+step.query, bytes.NewReader(step.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != step.status || resp.ProtoMajor != 2 {
				t.Fatalf("%s %s: %s %s", step.method, at, resp.Proto, resp.Status)
			}
			if step.method == http.MethodGet {
				continue
			}
			next, err := resp.Location()
			if err != nil {
				t.Fatal(err)
			}
			if next.Scheme != "https" || next.Host != host {
				t.Fatalf("%s %s: the next location is %s", step.method, at, next)
			}
			at = next.String()
		}
	})

	t.Run("a large layer", func(t *testing.T) {
		t.Parallel()
		data := make([]byte, 50<<20)
		rand.NewChaCha8([32]byte{}).Read(data)
		big := newArtifact(t, nil, string(data))
		skopeo := newSkopeo(t, first)
		skopeo.push(t, writeLayout(t, big, "v1"), host+"/big")
		first.check(t, "big", "v1", big)
		second.check(t, "big", "v1", big)
		pulled := filepath.Join(t.TempDir(), "layout")
		skopeo.pull(t, host+"/big", pulled)
		checkLayout(t, pulled, big)
	})
}
