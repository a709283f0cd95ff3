package ocifs_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
)

// A child is this test program, run again with the name of what it has to do in
// its environment. Its input begins with a line of JSON, its configuration, and
// ends when it should stop.

const childEnv = "OCIFS_TEST_CHILD"

func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		scratch.Main(m)
	}
	if err := childMain(name); err != nil {
		fmt.Fprintf(os.Stderr, "child %s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childMain(name string) error {
	in := bufio.NewReader(os.Stdin)
	config, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, in)
		close(stop)
	}()
	main := map[string]func(config []byte, stop <-chan struct{}) error{
		"kill":   killChild,
		"push":   pushChild,
		"read":   readChild,
		"delete": deleteChild,
	}[name]
	return main(config, stop)
}

// child is a running child.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{} // closed when it has
	err   error         // what it ended with
}

// startChild starts a child, whose output goes to out.
func startChild(t testing.TB, name string, config any, out *os.File) *child {
	t.Helper()
	exe, err := os.Executable()
	qt.Assert(t, qt.IsNil(err))
	line, err := json.Marshal(config)
	qt.Assert(t, qt.IsNil(err))
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	stdin, err := cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	c := &child{cmd: cmd, stdin: stdin, ended: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(c.kill)
	_, err = stdin.Write(append(line, '\n'))
	qt.Assert(t, qt.IsNil(err))
	return c
}

// stop tells the child to end, waits until it has, and returns its error.
func (c *child) stop() error {
	c.stdin.Close()
	<-c.ended
	return c.err
}

// kill ends the child at once.
func (c *child) kill() {
	c.cmd.Process.Kill()
	<-c.ended
}
