package interop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// clients are the programs that are tested. Nginx is one that has clients itself.
var clients = []string{"crane", "regctl", "oras", "skopeo", "podman", "buildah", "nginx"}

// ociserve is the path of the program that TestMain built.
var ociserve string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	for _, name := range selection() {
		if !slices.Contains(clients, name) {
			fmt.Fprintf(os.Stderr, "OCI_INTEROP_CLIENTS: %q is none of %q\n", name, clients)
			return 2
		}
	}
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer os.RemoveAll(dir)
	if ociserve, err = buildProgram(filepath.Join("..", ".."), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return m.Run()
}

// buildProgram builds the ociserve of a module in a directory, and returns its path.
func buildProgram(module, dir string) (string, error) {
	path := filepath.Join(dir, "ociserve")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./cmd/ociserve")
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build of ociserve: %w\n%s", err, out)
	}
	return path, nil
}

// selection returns the clients to test.
func selection() []string {
	if list := os.Getenv("OCI_INTEROP_CLIENTS"); list != "" {
		return strings.Split(list, ",")
	}
	return clients
}

// client runs a program that has a home of its own.
type client struct {
	path string
	home string
	args []string // before those of each run
	env  []string // beside what all clients have
}

// newClient finds a client. It skips the test of one that is not selected.
func newClient(t *testing.T, name string) *client {
	t.Helper()
	if !slices.Contains(selection(), name) {
		t.Skipf("%s IS NOT TESTED: it is not in OCI_INTEROP_CLIENTS", name)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v (install.sh installs it)", err)
	}
	return &client{path: path, home: t.TempDir()}
}

// run runs the client, which must succeed, and returns what it printed to
// standard output.
func (c *client) run(t testing.TB, args ...string) string {
	t.Helper()
	return c.feed(t, nil, args...)
}

// feed is like run, with an input.
func (c *client) feed(t testing.TB, stdin io.Reader, args ...string) string {
	t.Helper()
	cmd, stdout, stderr := c.command(t, args)
	cmd.Stdin = stdin
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v\n%s%s", cmd.Args, err, stdout, stderr)
	}
	return stdout.String()
}

// fails runs the client, which must fail and say something that contains want.
func (c *client) fails(t testing.TB, want string, args ...string) {
	t.Helper()
	cmd, stdout, stderr := c.command(t, args)
	if err := cmd.Run(); err == nil {
		t.Fatalf("%q: succeeded\n%s%s", cmd.Args, stdout, stderr)
	}
	if said := stdout.String() + stderr.String(); !strings.Contains(said, want) {
		t.Errorf("%q: said\n%swant something with %q", cmd.Args, said, want)
	}
}

// patience is how long the tests wait for what takes moments, on a machine that does much else.
const patience = 5 * time.Minute

func (c *client) command(t testing.TB, args []string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, c.path, slices.Concat(c.args, args)...)
	cmd.Dir = c.home
	// Nothing of the caller's: no proxy, no credentials, no configuration.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + c.home,
		"TMPDIR=" + c.home,
		"XDG_RUNTIME_DIR=" + c.home,
		"CONTAINERS_CONF=" + filepath.Join(c.home, "containers.conf"),
		"CONTAINERS_REGISTRIES_CONF=" + filepath.Join(c.home, "registries.conf"),
		"CONTAINERS_STORAGE_CONF=" + filepath.Join(c.home, "storage.conf"),
	}
	cmd.Env = append(cmd.Env, c.env...)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// writeFile writes a file into the home of the client, and returns its path.
func (c *client) writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(c.home, name)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkLines checks that a client printed the lines, in that order.
func checkLines(t testing.TB, got string, want ...string) {
	t.Helper()
	checkList(t, strings.Split(strings.TrimSuffix(got, "\n"), "\n"), want)
}

// checkList compares without printing thousands.
func checkList(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %d: %.1000s\nwant %d: %.1000s", len(got), fmt.Sprintf("%q", got), len(want), fmt.Sprintf("%q", want))
	}
}

// checkSet compares without regard to order.
func checkSet(t testing.TB, got []string, want ...string) {
	t.Helper()
	checkList(t, slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)))
}
