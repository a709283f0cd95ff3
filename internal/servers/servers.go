// Package servers starts servers of object storage for tests and measurements, of this module and of nested ones:
// versitygw for S3, Azurite for Azure. install.sh installs them.
package servers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
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
	look(t, "versitygw")
	socket, stop, err := RunVersitygw(dir)
	must(t, err)
	t.Cleanup(stop)
	return "http://" + forward(t, socket)
}

// azurite starts Azurite, without containers, and returns its URL.
func azurite(t testing.TB, args ...string) string {
	t.Helper()
	look(t, "azurite-blob")
	args = append(args, "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent")
	cmd := exec.Command("azurite-blob", args...)
	cmd.Dir = t.TempDir()
	line, end, err := start(cmd, "successfully listens on")
	must(t, err)
	t.Cleanup(end)
	_, url, ok := strings.Cut(line, "listens on ")
	if !ok {
		t.Fatalf("azurite-blob said %q", line)
	}
	return strings.TrimSpace(url)
}

// look skips the test if a program is not installed.
func look(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv(Required) != "" {
			t.Fatalf("%s is set: %v", Required, err)
		}
		t.Skipf("internal/servers/install.sh installs it: %v", err)
	}
}

// start starts a server, and returns the line by which it says that it is ready, and what ends it.
func start(cmd *exec.Cmd, ready string) (line string, end func(), err error) {
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		in.Close()
		close(exited)
	}()
	end = func() {
		cmd.Process.Kill()
		<-exited
	}
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
			end()
			return "", nil, fmt.Errorf("%s ended before it was ready", cmd.Path)
		}
		return line, end, nil
	case <-time.After(time.Minute):
		end()
		return "", nil, fmt.Errorf("%s was not ready in a minute", cmd.Path)
	}
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
