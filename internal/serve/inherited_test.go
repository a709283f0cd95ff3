//go:build unix

package serve

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestInherited_ServesTheSocketOfSystemd passes a socket as systemd does.
func TestInherited_ServesTheSocketOfSystemd(t *testing.T) {
	t.Parallel()
	for _, count := range []string{"1", "2"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		qt.Assert(t, qt.IsNil(err))
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		qt.Assert(t, qt.IsNil(err))
		defer f.Close()
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=`+count+` exec "$0" -quiet`, os.Args[0])
		cmd.Env = append(os.Environ(), "OCI_TEST_AS_PROGRAM=1")
		cmd.ExtraFiles = []*os.File{f}
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(cmd.Start()))
		line, _ := bufio.NewReader(out).ReadString('\n')
		if count == "1" {
			_, port, _ := net.SplitHostPort(l.Addr().String())
			qt.Check(t, qt.StringContains(line, "http://localhost:"+port+"/v2/"))
			resp, err := http.Get("http://" + l.Addr().String() + "/v2/")
			qt.Assert(t, qt.IsNil(err))
			resp.Body.Close()
			qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
			cmd.Process.Signal(os.Interrupt)
			qt.Check(t, qt.IsNil(cmd.Wait()))
		} else {
			qt.Check(t, qt.IsNotNil(cmd.Wait()))
			qt.Check(t, qt.StringContains(errs.String(), "systemd passed 2 sockets, where one is needed"))
		}
	}
}
