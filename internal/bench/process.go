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
	"path/filepath"
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
	server  server
	store   *store // of its bucket; nil if it has none
	cmd     *exec.Cmd
	dir     string
	stdin   io.WriteCloser
	answers *json.Decoder
	hello
}

// hello is what a server says first.
type hello struct {
	Addr    string
	Reads   string        // where GET and HEAD go, if that is elsewhere
	Before  usage         // before it was opened
	Opening time.Duration // how long that took
}

// start starts a server. Its directory is made in the one that is given, or in
// the system's for temporary files if none is. The directory is a bucket if
// there is a store.
func start(ctx context.Context, s server, parent string, st *store) (*process, error) {
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return nil, err
	}
	p := &process{server: s, store: st, dir: dir}
	if err := p.run(ctx); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return p, nil
}

// run starts the process of the server.
func (p *process) run(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	place := "."
	if p.store != nil {
		place = p.store.url + "/" + filepath.Base(p.dir)
	}
	cmd := exec.CommandContext(ctx, program, "-serve", p.server.name, "-at", place)
	cmd.Dir = p.dir
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.stdin, p.answers, p.hello = cmd, stdin, json.NewDecoder(stdout), hello{}
	if err := p.answers.Decode(&p.hello); err != nil {
		p.end()
		return fmt.Errorf("%s does not start: %w", p.server.name, err)
	}
	return nil
}

// slow makes each request to the store wait from now on, and returns what went
// to it since the last call. Without a store, that is nothing.
func (p *process) slow(delay time.Duration) traffic {
	if p.store == nil {
		return traffic{}
	}
	return p.store.reset(delay)
}

// restart ends the process, and starts another one with the same content.
func (p *process) restart(ctx context.Context) error {
	if err := p.end(); err != nil {
		return err
	}
	return p.run(ctx)
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

// stop ends the process, waits until the system has its memory back, and removes
// its content.
func (p *process) stop() error { return errors.Join(p.end(), os.RemoveAll(p.dir)) }

func (p *process) end() error {
	p.stdin.Close()
	return p.cmd.Wait()
}

// serve is the other end of a process: it serves until there is no more input,
// and ends well.
func (s server) serve(place string, in io.Reader, out io.Writer) (err error) {
	tidy()
	before, err := ownUsage()
	if err != nil {
		return err
	}
	began := time.Now()
	handler, end, err := s.open(place)
	if err != nil {
		return err
	}
	opening := time.Since(began)
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
	child, _ := handler.(*external)
	first := hello{Addr: l.Addr().String(), Before: before, Opening: opening}
	if child != nil {
		first.Reads = child.addr
	}
	return answer(first, child, in, out)
}

// answer says hello, and answers commands until there are no more.
func answer(first hello, child *external, in io.Reader, out io.Writer) error {
	answers := json.NewEncoder(out)
	if err := answers.Encode(first); err != nil {
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
			if child != nil {
				forgetPeak(strconv.Itoa(child.pid))
			}
			profile = prefix
			if err := startProfile(profile); err != nil {
				return err
			}
		}
		u, err := ownUsage()
		if err != nil {
			return err
		}
		if child != nil {
			v, err := usageOf(child.pid)
			if err != nil {
				return err
			}
			u = u.plus(v)
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

// tidy frees what can be freed, and forgets the peak of this process's memory.
func tidy() {
	runtime.GC()
	debug.FreeOSMemory()
	forgetProgram()
	forgetPeak("self")
}

// forgetPeak makes the system forget the peak of a process's memory (proc(5),
// clear_refs). A system that does not let it goes on to count from the process's
// start.
func forgetPeak(pid string) { os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0) }

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
	peak, err := peakMemory("self")
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	return usage{
		CPU:    time.Duration(r.Utime.Nano() + r.Stime.Nano()),
		Peak:   peak,
		Allocs: heap.Mallocs,
		Bytes:  heap.TotalAlloc,
	}, err
}

// peakMemory returns VmHWM of a process (proc(5), status).
func peakMemory(pid string) (int64, error) {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("/proc/" + pid + "/status has no VmHWM")
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
