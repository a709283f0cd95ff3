package servers

import (
	"os"
	"os/exec"
	"path/filepath"
)

// RunVersitygw runs versitygw on a directory until stop is called, for programs that are no
// test. It can't tell which port it chose, but it listens on sockets that have names.
func RunVersitygw(dir string) (socket string, stop func(), err error) {
	temp, err := os.MkdirTemp("", "vgw") // names of sockets are short
	if err != nil {
		return "", nil, err
	}
	socket = filepath.Join(temp, "s")
	cmd := exec.Command("versitygw", "--keep-alive", "--port", socket, "posix", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+S3Access, "ROOT_SECRET_ACCESS_KEY="+S3Secret)
	p, err := start(cmd, "service listening on")
	if err != nil {
		os.RemoveAll(temp)
		return "", nil, err
	}
	stop = func() {
		p.end()
		os.RemoveAll(temp)
	}
	if err := p.awaitSocket(socket); err != nil { // it says that it listens before it does
		stop()
		return "", nil, err
	}
	return socket, stop, nil
}
