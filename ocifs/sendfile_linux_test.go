package ocifs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
)

// TestBlobsAreSentBySendfile lets strace(1) watch the system calls of a server.
func TestBlobsAreSentBySendfile(t *testing.T) {
	if out, err := exec.Command("strace", "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace cannot be used here: %v %s", err, out)
	}
	t.Parallel()
	dir := scratch.Kept(t)
	text := data(1, 9<<20+7)
	size := int64(len(text))
	r := openFixture(t, dir, "", ocifs.Options{})
	must(t, r).MustPushBlob("repo", text)
	r.close()
	for _, read := range blobReads {
		t.Run(read.name, func(t *testing.T) {
			t.Parallel()
			traces := scratch.Kept(t)
			p := startServer(t, dir, "strace", "-f", "-ff", "-o", filepath.Join(traces, "thread"),
				"-e", "trace=sendfile,splice,copy_file_range,read,readv,pread64,preadv,write,writev,pwrite64,pwritev,sendto,sendmsg")
			want := read.length(size)
			qt.Check(t, qt.IsNil(p.readBlob("/v2/repo/blobs/"+string(describe(text).Digest), read.header, want)))
			p.stop()
			moved := movedBytes(t, traces)
			t.Logf("%d bytes: %v", want, moved)
			qt.Check(t, qt.Equals(moved["sendfile"].bytes, want-sniffed))
			delete(moved, "sendfile")
			for call, m := range moved {
				qt.Check(t, qt.IsTrue(m.bytes < 64<<10), qt.Commentf("%s moved %d bytes", call, m.bytes))
			}
		})
	}
}

// moved is what calls of one kind have moved.
type moved struct{ calls, bytes int64 }

var tracedCall = regexp.MustCompile(`(?m)^(\w+)\(.*\) += (\d+)`)

// movedBytes sums up the traces of all threads. Calls that failed do not count.
func movedBytes(t *testing.T, dir string) map[string]moved {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "thread.*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(len(names) > 0))
	sums := make(map[string]moved)
	for _, name := range names {
		trace, err := os.ReadFile(name)
		qt.Assert(t, qt.IsNil(err))
		for _, call := range tracedCall.FindAllSubmatch(trace, -1) {
			n, err := strconv.ParseInt(string(call[2]), 10, 64)
			qt.Assert(t, qt.IsNil(err))
			sum := sums[string(call[1])]
			sums[string(call[1])] = moved{sum.calls + 1, sum.bytes + n}
		}
	}
	return sums
}
