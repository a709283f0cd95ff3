package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a process has used.
type usage struct {
	CPU    time.Duration // user and system, of all threads, the garbage collector's too
	Peak   int64         // the most memory that was resident since the last reset, in bytes
	Allocs uint64        // objects on the heap that were ever allocated
	Bytes  uint64        // and their sizes
}

// process is a server that runs in a process of its own.
type process struct {
	cmd     *exec.Cmd
	dir     string
	stdin   io.WriteCloser
	answers *json.Decoder
	addr    string
}

// start starts a server. Its directory is made in the one that is given, or in
// the system's for temporary files if none is.
func start(ctx context.Context, s server, parent string) (_ *process, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	cmd := exec.CommandContext(ctx, program, "-serve", s.name)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, dir: dir, stdin: stdin, answers: json.NewDecoder(stdout)}
	if err := p.answers.Decode(&p.addr); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s does not start: %w", s.name, err)
	}
	return p, nil
}

// reset lets the process tidy up and begin to measure. If profile is not empty,
// it is how the names of the files begin that profiles are written to.
func (p *process) reset(profile string) (usage, error) { return p.ask("reset " + profile) }

// usage returns what the process has used so far, and ends its profiles.
func (p *process) usage() (usage, error) { return p.ask("usage") }

// peek returns what usage does, and ends nothing.
func (p *process) peek() (usage, error) { return p.ask("peek") }

func (p *process) ask(command string) (u usage, err error) {
	if _, err := io.WriteString(p.stdin, command+"\n"); err != nil {
		return usage{}, err
	}
	err = p.answers.Decode(&u)
	return u, err
}

// stop ends the process and waits until the system has its memory back.
func (p *process) stop() error {
	p.stdin.Close()
	err := p.cmd.Wait()
	return errors.Join(err, os.RemoveAll(p.dir))
}

// serve is the other end of a process: it serves until there is no more input,
// and ends well. Its directory is the current one.
func (s server) serve(in io.Reader, out io.Writer) (err error) {
	handler, end, err := s.open(".")
	if err != nil {
		return err
	}
	if end != nil {
		defer func() { err = errors.Join(err, end()) }()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	httpServer := &http.Server{Handler: handler}
	go httpServer.Serve(l)
	defer httpServer.Close()
	return answer(l.Addr().String(), in, out)
}

// answer answers commands until there are no more.
func answer(addr string, in io.Reader, out io.Writer) error {
	answers := json.NewEncoder(out)
	if err := answers.Encode(addr); err != nil {
		return err
	}
	profile := ""
	for commands := bufio.NewScanner(in); ; {
		if !commands.Scan() {
			return commands.Err()
		}
		command, prefix, _ := strings.Cut(commands.Text(), " ")
		if command == "reset" {
			tidy()
			profile = prefix
			if err := startProfile(profile); err != nil {
				return err
			}
		}
		u, err := ownUsage()
		if err != nil {
			return err
		}
		if command == "usage" {
			if err := stopProfile(profile); err != nil {
				return err
			}
		}
		if err := answers.Encode(u); err != nil {
			return err
		}
	}
}

// tidy frees what can be freed, and makes the system forget the peak of this
// process's memory (proc(5), clear_refs). A system that does not let it goes on
// to count from the process's start.
func tidy() {
	runtime.GC()
	debug.FreeOSMemory()
	forgetProgram()
	os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// forgetProgram gives back those pages of the program's file that were read and
// not written. The program has all servers in it, and the start-up of one's
// packages is nothing that another needs memory for; what is needed comes back
// as it is used.
func forgetProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var mode string
		_, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode)
		if err == nil && strings.HasSuffix(strings.TrimSpace(line), program) && !strings.Contains(mode, "w") {
			syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
		}
	}
}

func ownUsage() (usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, err
	}
	peak, err := peakMemory()
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	return usage{
		CPU:    time.Duration(r.Utime.Nano() + r.Stime.Nano()),
		Peak:   peak,
		Allocs: heap.Mallocs,
		Bytes:  heap.TotalAlloc,
	}, err
}

// peakMemory returns VmHWM of this process (proc(5), status).
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}

func startProfile(prefix string) error {
	pprof.StopCPUProfile() // of work that has failed
	if prefix == "" {
		return nil
	}
	f, err := os.Create(prefix + ".cpu.pprof")
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f)
}

func stopProfile(prefix string) error {
	if prefix == "" {
		return nil
	}
	pprof.StopCPUProfile()
	f, err := os.Create(prefix + ".mem.pprof")
	if err != nil {
		return err
	}
	if err := pprof.Lookup("allocs").WriteTo(f, 0); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
