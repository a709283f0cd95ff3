package browser

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
)

// ociserve is the path of the program.
var ociserve string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer os.RemoveAll(dir)
	ociserve = filepath.Join(dir, "ociserve")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", ociserve, "./cmd/ociserve")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build of ociserve: %v\n%s", err, out)
		return 2
	}
	return m.Run()
}

// serve runs an ociserve until the test ends, and returns its host and port.
func serve(t *testing.T, args ...string) (host string) {
	t.Helper()
	cmd := exec.Command(ociserve, append([]string{"-addr", "127.0.0.1:0", "-quiet"}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("ociserve: %v", err)
		}
	})
	greeting := bufio.NewReader(stdout)
	line, err := greeting.ReadString('\n')
	qt.Assert(t, qt.IsNil(err))
	go io.Copy(io.Discard, greeting)
	_, address, _ := strings.Cut(line, " on http://")
	host, _, _ = strings.Cut(address, "/")
	return host
}

func connect(t *testing.T, host string) ociregistry.Interface {
	t.Helper()
	reg, err := ociclient.New(host, &ociclient.Options{Insecure: true})
	qt.Assert(t, qt.IsNil(err))
	return reg
}
