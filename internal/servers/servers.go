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
	p, err := start(cmd, "successfully listens on")
	must(t, err)
	t.Cleanup(p.end)
	_, url, ok := strings.Cut(p.line, "listens on ")
	if !ok {
		t.Fatalf("azurite-blob said %q", p.line)
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

// program is a server that runs.
type program struct {
	line   string        // by which it said that it is ready
	exited chan struct{} // closed when it has ended
	cmd    *exec.Cmd
}

// startTime is how long a server may take to be ready, on a machine that does much else.
const startTime = 5 * time.Minute

// start starts a server, which says that it is ready by a line with some words.
func start(cmd *exec.Cmd, ready string) (*program, error) {
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &program{exited: make(chan struct{}), cmd: cmd}
	go func() {
		cmd.Wait()
		in.Close()
		close(p.exited)
	}()
	late := time.AfterFunc(startTime, func() { cmd.Process.Kill() })
	defer late.Stop()
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); fmt.Fprintln(&said, lines.Text()) {
		if strings.Contains(lines.Text(), ready) {
			go io.Copy(io.Discard, out)
			p.line = lines.Text()
			return p, nil
		}
	}
	go io.Copy(io.Discard, out)
	p.end()
	return nil, fmt.Errorf("%s ended, or was not ready in %v: %s", cmd.Path, startTime, said.String())
}

// end ends the server.
func (p *program) end() {
	p.cmd.Process.Kill()
	<-p.exited
}

// awaitSocket waits until the server listens on a Unix socket.
func (p *program) awaitSocket(socket string) error {
	late := time.After(startTime)
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(time.Millisecond):
		case <-p.exited:
			return fmt.Errorf("%s ended: %w", p.cmd.Path, err)
		case <-late:
			return err
		}
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
