package serve

import (
	"fmt"
	"net"
	"os"
	"strconv"
)

// firstInherited is the descriptor of the first socket that systemd passes (sd_listen_fds(3)).
const firstInherited = 3

// inherited returns the socket that systemd has passed to this process, or nil.
func inherited() (net.Listener, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name) // they are not for children
	}
	if count != "1" {
		return nil, fmt.Errorf("systemd passed %s sockets, where one is needed", count)
	}
	f := os.NewFile(firstInherited, "the socket of systemd")
	defer f.Close() // the listener has a copy
	return net.FileListener(f)
}
