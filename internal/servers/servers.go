// Package servers starts servers of object storage for tests, of this module and of nested ones: versitygw
// for S3, Azurite for Azure. install.sh installs them.
package servers

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Required is the environment variable that makes the absence of a server a failure. Without
// it, tests are skipped.
const Required = "OCIBUCKET_SERVERS"

// Credentials of the servers. Those of Azurite are its documented ones.
const (
	S3Access     = "test"
	S3Secret     = "test-secret"
	AzureAccount = "devstoreaccount1"
	AzureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Versitygw starts versitygw on a directory, whose directories are its buckets, and returns
// its URL. Several may have one directory.
func Versitygw(t testing.TB, dir string) string {
	t.Helper()
	// It can't tell which port it chose, but it listens on sockets that have names. These are
	// short ones.
	run, err := os.MkdirTemp("", "vgw")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(run) })
	socket := filepath.Join(run, "s")
	cmd := command(t, "versitygw", "--keep-alive", "--port", socket, "posix", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+S3Access, "ROOT_SECRET_ACCESS_KEY="+S3Secret)
	start(t, cmd, "service listening on")
	return "http://" + forward(t, socket)
}

// azurite starts Azurite, without containers, and returns its URL.
func azurite(t testing.TB, args ...string) string {
	t.Helper()
	args = append(args, "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent")
	cmd := command(t, "azurite-blob", args...)
	cmd.Dir = t.TempDir()
	line := start(t, cmd, "successfully listens on")
	_, url, ok := strings.Cut(line, "listens on ")
	if !ok {
		t.Fatalf("azurite-blob said %q", line)
	}
	return strings.TrimSpace(url)
}

// command returns a command, or skips the test if it is not installed.
func command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv(Required) != "" {
			t.Fatalf("%s is set: %v", Required, err)
		}
		t.Skipf("internal/servers/install.sh installs it: %v", err)
	}
	return exec.Command(path, args...)
}

// start starts a server, returns the line by which it says that it is ready, and ends it with the test.
func start(t testing.TB, cmd *exec.Cmd, ready string) string {
	t.Helper()
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	must(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		in.Close()
		close(exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
	})
	found := make(chan string, 1)
	go func() {
		defer close(found)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), ready) {
				found <- lines.Text()
				break
			}
		}
		go io.Copy(io.Discard, out)
	}()
	select {
	case line, ok := <-found:
		if !ok {
			t.Fatalf("%s ended before it was ready", cmd.Path)
		}
		return line
	case <-time.After(time.Minute):
		t.Fatalf("%s was not ready in a minute", cmd.Path)
	}
	return ""
}

// forward passes connections of a new TCP port on to a Unix socket, and returns the port's address.
func forward(t testing.TB, socket string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		listener.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { pass(ctx, conn, socket) })
		}
	})
	return listener.Addr().String()
}

func pass(ctx context.Context, conn net.Conn, socket string) {
	defer conn.Close()
	server, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() {
		conn.Close()
		server.Close()
	})
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(server, conn)
		server.(*net.UnixConn).CloseWrite()
	}()
	io.Copy(conn, server)
	conn.Close()
	<-done
}
