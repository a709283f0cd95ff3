package histories

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Backend is something that several processes can serve at once.
type Backend struct {
	Name string

	// Command returns the command line of a process that serves what is in dir, on a
	// port of its choice, which is all that the processes of one history share; i is the
	// number of the process, from 0. The first line that it prints has the address: "… on http://HOST:PORT/…". It ends
	// well, in a time, when it is interrupted.
	Command func(dir string, i int) []string

	// Lingers says that something may still come, until the end of a round, of what a
	// process had begun before its death: a request to a store on another machine may be on
	// its way. With files that is not so: what a dead process wrote is there.
	Lingers bool
}

// process is one life of a server.
type process struct {
	host string // host:port
	cmd  *exec.Cmd
	log  tail
	died chan struct{} // closed when it has ended
	err  error         // of its end
	at   time.Time     // of its end
}

// startTime is how long a process may take to serve, and to end, on a machine that does much else.
const startTime = 5 * time.Minute

func startProcess(command []string) (*process, error) {
	p := &process{cmd: exec.Command(command[0], command[1:]...), died: make(chan struct{})}
	p.cmd.Stderr = &p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(startTime, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	greeting := bufio.NewReader(stdout)
	line, err := greeting.ReadString('\n')
	_, address, _ := strings.Cut(line, " on http://")
	p.host, _, _ = strings.Cut(address, "/")
	if err != nil || p.host == "" {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		return nil, fmt.Errorf("%s printed %q, and failed: %s", command[0], line, p.log.String())
	}
	go func() {
		io.Copy(io.Discard, greeting)
		p.err = p.cmd.Wait()
		p.at = time.Now()
		close(p.died)
	}()
	return p, nil
}

// kill ends the process at once.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.died
}

// stop lets the process finish what it does, and returns an error if it does not end
// well.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.died:
	case <-time.After(startTime):
		p.kill()
		return fmt.Errorf("the process did not end: %s", p.log.String())
	}
	if p.err != nil {
		return fmt.Errorf("%w: %s", p.err, p.log.String())
	}
	return nil
}

// tail is the last of what was written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 8 << 10 // bytes

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > 2*tailSize {
		t.text = append(t.text[:0], t.text[len(t.text)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// build builds the ociserve of a module in a directory, and returns its path.
func build(ctx context.Context, module, dir string) (string, error) {
	path := filepath.Join(dir, "ociserve")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, "./cmd/ociserve")
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build of ociserve: %w: %s", err, out)
	}
	return path, nil
}

// neverSent reports whether a request failed before any of it was sent.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
