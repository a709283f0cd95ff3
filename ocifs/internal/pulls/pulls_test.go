package pulls

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

func TestMain(m *testing.M) { scratch.Main(m) }

var a, b, c = digest.FromString("a"), digest.FromString("b"), digest.FromString("c")

// newLog returns a log of its own for a directory, as each process has one.
func newLog(t *testing.T, root string) *Log {
	work := disk.NewWorkspace(disk.OS{}, filepath.Join(root, ".ocifs"), false)
	l := &Log{Work: work, Dir: filepath.Join(work.Dir, "pulls"), Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() {
		l.Close()
		qt.Check(t, qt.IsNil(work.Close()))
	})
	return l
}

func at(seconds int64) time.Time { return time.Unix(seconds, 0) }

func wantTimes(t *testing.T, l *Log, repo string, want map[ociregistry.Digest]int64) {
	t.Helper()
	got, err := l.Times(repo)
	qt.Assert(t, qt.IsNil(err))
	seconds := make(map[ociregistry.Digest]int64)
	for digest, at := range got {
		seconds[digest] = at / int64(time.Second)
	}
	qt.Check(t, qt.DeepEquals(seconds, want))
}

func TestLog_HasWhatWasNotedAndWritesItDownWhenItIsClosed(t *testing.T) {
	t.Parallel()
	root := scratch.Kept(t)
	l := newLog(t, root)
	l.Note("foo", a, at(1))
	l.Note("foo", a, at(5))
	l.Note("foo", b, at(3))
	l.Note("bar", c, at(4))
	wantTimes(t, l, "foo", map[ociregistry.Digest]int64{a: 5, b: 3})
	_, err := os.Lstat(l.Dir)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist)) // a pull is no write
	l.Close()
	l.Note("foo", c, at(9)) // is lost
	next := newLog(t, root)
	wantTimes(t, next, "foo", map[ociregistry.Digest]int64{a: 5, b: 3})
	wantTimes(t, next, "bar", map[ociregistry.Digest]int64{c: 4})
	wantTimes(t, next, "else", map[ociregistry.Digest]int64{})
}

func TestLog_IsWrittenDownNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		root := scratch.Kept(t)
		l, other := newLog(t, root), newLog(t, root)
		l.Note("foo", a, at(1))
		time.Sleep(every - time.Second)
		l.Note("foo", b, at(2))
		wantTimes(t, other, "foo", map[ociregistry.Digest]int64{})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantTimes(t, other, "foo", map[ociregistry.Digest]int64{a: 1, b: 2})
		qt.Check(t, qt.Equals(len(l.pulled), 0))
		l.Note("foo", a, at(3))
		time.Sleep(2 * every)
		synctest.Wait()
		wantTimes(t, other, "foo", map[ociregistry.Digest]int64{a: 3, b: 2})
	})
}

// Several processes write down what each has seen. The last pull counts, whoever writes last.
func TestLog_MergesWhatProcessesHaveSeen(t *testing.T) {
	t.Parallel()
	disktest.Still(t, func(t *testing.T) {
		root := scratch.Kept(t)
		var wg sync.WaitGroup
		for i := range 8 {
			l := newLog(t, root)
			l.Note("foo", a, at(int64(10-i)))
			l.Note("foo", digest.FromString(fmt.Sprint(i)), at(1))
			wg.Go(l.Close)
		}
		wg.Wait()
		late := newLog(t, root)
		late.Note("foo", a, at(2)) // an early pull that is written late
		times, err := late.Times("foo")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(times, 9))
		qt.Check(t, qt.Equals(times[a], at(10).UnixNano()))
		late.Close()
		times, err = newLog(t, root).Times("foo")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(times, 9))
		qt.Check(t, qt.Equals(times[a], at(10).UnixNano()))
	})
}

// A file that is torn, or is no file of pulls at all, loses what it does not have, and no more.
func TestLog_SurvivesDamage(t *testing.T) {
	t.Parallel()
	line := fmt.Sprintf("%s %d\n", a, at(7).UnixNano())
	for name, test := range map[string]struct {
		text string
		want map[ociregistry.Digest]int64
	}{
		"empty":     {"", map[ociregistry.Digest]int64{}},
		"torn":      {line + string(b)[:20], map[ociregistry.Digest]int64{a: 7}},
		"no time":   {string(b) + "\n" + line, map[ociregistry.Digest]int64{a: 7}},
		"no digest": {"sha256:1 5\n../x 6\n" + line, map[ociregistry.Digest]int64{a: 7}},
		"zeros":     {strings.Repeat("\x00", 500), map[ociregistry.Digest]int64{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := scratch.Kept(t)
			l := newLog(t, root)
			qt.Assert(t, qt.IsNil(os.MkdirAll(l.Dir, 0o777)))
			qt.Assert(t, qt.IsNil(os.WriteFile(l.file("foo"), []byte(test.text), 0o666)))
			wantTimes(t, l, "foo", test.want)
			l.Note("foo", c, at(8))
			l.Close()
			test.want[c] = 8
			wantTimes(t, newLog(t, root), "foo", test.want)
		})
	}
}

func TestLog_ForgetsManifestsAndRepositoriesThatAreGone(t *testing.T) {
	t.Parallel()
	root := scratch.Kept(t)
	l := newLog(t, root)
	isA := func(digest ociregistry.Digest) bool { return digest == a }
	qt.Assert(t, qt.IsNil(l.Forget("foo", isA)))
	qt.Assert(t, qt.IsNil(l.Retain(nil)))
	_, err := os.Lstat(l.Dir)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist)) // there was nothing to forget
	for _, repo := range []string{"foo", "bar"} {
		l.Note(repo, a, at(1))
		l.Note(repo, b, at(2))
	}
	l.Close()
	l = newLog(t, root)
	qt.Assert(t, qt.IsNil(l.Forget("foo", isA)))
	qt.Assert(t, qt.IsNil(l.Retain(map[string]bool{"foo": true})))
	wantTimes(t, l, "foo", map[ociregistry.Digest]int64{a: 1})
	wantTimes(t, l, "bar", map[ociregistry.Digest]int64{})
	before, err := os.Lstat(l.file("foo"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(l.Forget("foo", isA))) // nothing is gone: nothing is written
	after, err := os.Lstat(l.file("foo"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(os.SameFile(before, after)))
}

// However many manifests are pulled, those that are in memory have a bound.
func TestLog_IsWrittenDownWhenItHasMuch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, scratch.Kept(t))
		note := func(n int) {
			for i := range n {
				l.Note("foo", digest.FromString(fmt.Sprint(i)), at(1))
			}
			synctest.Wait()
		}
		note(maxNoted - 1)
		qt.Check(t, qt.Equals(len(l.pulled["foo"]), maxNoted-1))
		note(maxNoted - 1) // the same
		qt.Check(t, qt.Equals(len(l.pulled["foo"]), maxNoted-1))
		note(maxNoted)
		qt.Check(t, qt.Equals(len(l.pulled), 0))
		times, err := l.Times("foo")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(len(times), maxNoted))
		note(1) // another write follows in its time
		time.Sleep(2 * every)
		synctest.Wait()
		qt.Check(t, qt.Equals(len(l.pulled), 0))
	})
}
