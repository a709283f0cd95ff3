package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// zotProgram is what must be in PATH for zot to be measured. It is a program and no
// package here: what it requires would be most of this module's requirements. Build it
// in a checkout of github.com/project-zot/zot, with the extension that makes it
// a cache, by
//
//	go build -tags sync -o zot ./cmd/zot
const zotProgram = "zot"

// external is a server that is another program, which a child of this process runs.
// What is no GET or HEAD goes to the Handler, in this process.
type external struct {
	http.Handler
	addr string
	pid  int
}

// openZotCache runs zot as a cache that asks its origin for each tag, and syncs what it
// writes. What it does beside the work is off, as in other servers.
func openZotCache(place string) (http.Handler, func() error, error) {
	origin, originAddr, endOrigin, err := openOrigin()
	if err != nil {
		return nil, nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, nil, errors.Join(err, endOrigin())
	}
	cmd, err := startZot(place, addr, originAddr)
	if err != nil {
		return nil, nil, errors.Join(err, endOrigin())
	}
	end := func() error {
		cmd.Process.Kill() // it has nothing that it must write
		cmd.Wait()
		return endOrigin()
	}
	if err := awaitAnswer("http://" + addr + "/v2/"); err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return &external{origin, addr, cmd.Process.Pid}, end, nil
}

func startZot(dir, addr, origin string) (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	type object map[string]any
	config := must(json.Marshal(object{
		"distSpecVersion": "1.1.1",
		"storage":         object{"rootDirectory": filepath.Join(dir, "content"), "gc": false, "commit": true},
		"http":            object{"address": host, "port": port},
		"log":             object{"level": "error"},
		"extensions": object{"sync": object{"enable": true, "registries": []object{{
			"urls": []string{"http://" + origin}, "onDemand": true, "tlsVerify": false,
			"content": []object{{"prefix": "**"}},
		}}}},
	}))
	file := filepath.Join(dir, "zot.json")
	if err := os.WriteFile(file, config, 0o666); err != nil {
		return nil, err
	}
	cmd := exec.Command(zotProgram, "serve", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // this process may be killed
	return cmd, cmd.Start()
}

// freeAddr returns an address that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// awaitAnswer waits until there is an answer from a server that has just started.
func awaitAnswer(url string) error {
	var err error
	for range 6000 { // some minutes, on a machine that does much else
		var resp *http.Response
		if resp, err = http.Get(url); err == nil {
			return resp.Body.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// usageOf returns what another process has used (proc(5), stat): its CPU time is in
// hundredths of a second.
func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var ticks int64
	for _, field := range strings.Fields(rest)[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return usage{}, err
		}
		ticks += n
	}
	peak, err := peakMemory(strconv.Itoa(pid))
	return usage{CPU: time.Duration(ticks) * 10 * time.Millisecond, Peak: peak}, err
}

// plus adds what another process has used.
func (u usage) plus(v usage) usage {
	return usage{u.CPU + v.CPU, u.Peak + v.Peak, u.Allocs + v.Allocs, u.Bytes + v.Bytes}
}
