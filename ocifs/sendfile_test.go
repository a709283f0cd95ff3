package ocifs_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociserver"
)

// blobReads are requests for a blob, and how much of it they get.
var blobReads = []struct {
	name, header string
	length       func(size int64) int64
}{
	{"whole", "", func(size int64) int64 { return size }},
	{"begin", "bytes=0-3000000", func(int64) int64 { return 3_000_001 }},
	{"middle", "bytes=1000000-6000000", func(int64) int64 { return 5_000_001 }},
	{"from", "bytes=70001-", func(size int64) int64 { return size - 70_001 }},
	{"end", "bytes=-5000000", func(int64) int64 { return 5_000_000 }},
}

// readBlob makes the request. It fails unless it gets as many bytes as it should.
func (s *site) readBlob(path, header string, length int64) error {
	status := http.StatusOK
	var headers []string
	if header != "" {
		status, headers = http.StatusPartialContent, []string{"Range", header}
	}
	h, err := s.exchange(status, "GET", path, nil, 0, headers...)
	if err != nil {
		return err
	}
	if got := h.Get("Content-Length"); got != fmt.Sprint(length) {
		return fmt.Errorf("%s bytes, not %d", got, length)
	}
	return nil
}

// sniffed is how many bytes net/http takes out of what it is to send, before it
// hands the rest to the connection.
const sniffed = 512

// TestBlobsAreHandedToTheConnection checks what a connection receives when a blob is
// read through ociserver: the file, except for its first bytes. From there on it is
// up to package net, which uses sendfile(2) where it exists.
func TestBlobsAreHandedToTheConnection(t *testing.T) {
	t.Parallel()
	r := newFixture(t, ocifs.Options{})
	text := data(1, 9<<20+7)
	size := int64(len(text))
	must(t, r).MustPushBlob("repo", text)
	for _, read := range blobReads {
		t.Run(read.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(ociserver.New(r, nil))
			sent := &sentBytes{Listener: srv.Listener}
			srv.Listener = sent
			srv.Start()
			want := read.length(size)
			err := newSite(t, srv.URL).readBlob("/v2/repo/blobs/"+string(describe(text).Digest), read.header, want)
			srv.Close() // which waits until all is counted
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(sent.asFile.Load(), want-sniffed))
			headers := sent.otherwise.Load() - sniffed
			qt.Check(t, qt.IsTrue(0 < headers && headers < 1024), qt.Commentf("%d bytes of headers", headers))
		})
	}
}

// sentBytes is a listener that counts what its connections send.
type sentBytes struct {
	net.Listener
	asFile    atomic.Int64 // what came as a part of a file
	otherwise atomic.Int64
}

func (l *sentBytes) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &sendingConn{c.(*net.TCPConn), l}, nil
}

type sendingConn struct {
	*net.TCPConn
	sent *sentBytes
}

func (c *sendingConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.sent.otherwise.Add(int64(n))
	return n, err
}

// ReadFrom counts a source as a file if package net would.
func (c *sendingConn) ReadFrom(src io.Reader) (int64, error) {
	count := &c.sent.otherwise
	if limited, ok := src.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			count = &c.sent.asFile
		}
	}
	n, err := c.TCPConn.ReadFrom(src)
	count.Add(n)
	return n, err
}
