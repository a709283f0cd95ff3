//go:build unix

package ocifs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ociregistry"
)

var (
	faultsLong  = flag.Bool("faults.long", false, "let each call of the system fail in each way, also on the disk of the system")
	faultsEvery = flag.Int("faults.every", 23, "let one of so many calls of the system fail")
)

// root is the directory of the registry.
const root = "/root"

// TestEachCallFails lets each call of the system fail in turn. The call of the
// registry returns an error that says so, or truly succeeds. Existing content stays,
// a failed call has changed nothing, and it works when it is repeated.
func TestEachCallFails(t *testing.T) {
	t.Parallel()
	var s *stock
	var journal, layout diskSystem
	synctest.Test(t, func(t *testing.T) { s, journal, layout = fillDisks(t) })
	all := slices.Concat(pushCalls, uploadCalls, deleteCalls, collectCalls, readCalls, lifeCalls)
	some := []faultCall{pushCalls[1], uploadCalls[1], deleteCalls[0], readCalls[1]}
	if *faultsLong {
		some = all
	}
	for _, kind := range []faultTest{
		{name: "journal", calls: all, system: journal, warm: true},
		{name: "layout", calls: all, system: layout, warm: true},
		{name: "cold journal", calls: readCalls, system: journal},
		{name: "cold layout", calls: readCalls, system: layout},
		{name: "directory", calls: some, system: copyTo(t, layout, scratch.Dir(t)), warm: true},
	} {
		for i, call := range kind.calls {
			t.Run(kind.name+"/"+call.name, func(t *testing.T) {
				t.Parallel()
				ft := kind
				ft.stock, ft.call = s, call
				ft.first = i // each has another sample
				synctest.Test(t, ft.learn)
				if !t.Failed() {
					ft.run(t)
				}
			})
		}
	}
}

// faultSystem is a filesystem that has a registry.
type faultSystem interface {
	disk.FS
	clone(t *testing.T) faultSystem
}

// diskSystem is a disk as a faultSystem.
type diskSystem struct{ *disktest.Disk }

func (d diskSystem) clone(*testing.T) faultSystem { return diskSystem{d.Disk.Clone()} }

// fillDisks returns a stock, and two disks that have it: one on which most of it
// is in journals, and one where it is in layouts.
func fillDisks(t *testing.T) (s *stock, journal, layout diskSystem) {
	s = newStock()
	d := disktest.NewDisk(nil)
	r, err := open(d, root, "", nil)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	qt.Assert(t, qt.IsNil(s.fill(t.Context(), r)))
	journal.Disk = d.Clone()
	qt.Assert(t, qt.IsNil(r.Close()))
	layout.Disk = d.Clone()
	return s, journal, layout
}

// faultTest is the test of one call.
type faultTest struct {
	name   string
	calls  []faultCall
	system faultSystem
	warm   bool // the registry has read everything before
	first  int  // which of *faultsEvery calls of the system fails, if not all do

	*stock
	call faultCall

	// How it is without faults.
	answer                             string
	err                                error
	systemCalls                        []string
	before, done, after                []string // what look returns before, after run and after finish
	filesBefore, filesDone, filesAfter []string // what is there after a kill then, and a look, and Close
	used                               int64    // how many bytes were added in the end
}

// faultEnv is what a faultCall has to do with.
type faultEnv struct {
	*stock
	ctx context.Context
	fs  *disktest.Faults
	log *warnings
	r   *Registry // nil while there is none
	w   ociregistry.BlobWriter
}

// learn makes the call without faults.
func (ft *faultTest) learn(t *testing.T) {
	e := ft.begin(t, ft.system.clone(t))
	ft.before, ft.filesBefore = ft.kill(t, e)
	used := e.used()
	e.fs.Arm(disktest.Fault{})
	ft.answer, ft.err = ft.call.run(e)
	ft.systemCalls, _ = e.fs.Record()
	if ft.err != nil {
		qt.Assert(t, qt.IsTrue(isSentinel(ft.err)), qt.Commentf("without faults: %v", ft.err))
		qt.Assert(t, qt.IsTrue(ft.call.finish == nil && ft.call.undo == nil))
	}
	ft.done = ft.lookAt(e)
	_, ft.filesDone = ft.kill(t, e)
	if ft.call.finish != nil {
		qt.Assert(t, qt.IsNil(ft.call.finish(e)))
	}
	ft.after = ft.lookAt(e)
	ft.used = e.used() - used
	_, ft.filesAfter = ft.kill(t, e)
	if e.r != nil {
		qt.Assert(t, qt.IsNil(e.r.Close()))
	}
	qt.Assert(t, qt.IsNil(checkLayouts(e.fs, root, ft.after)))
}

// begin opens a registry and prepares the call.
func (ft *faultTest) begin(t *testing.T, fsys disk.FS) *faultEnv {
	own := *ft.stock
	e := &faultEnv{stock: &own, ctx: t.Context(), fs: &disktest.Faults{FS: fsys, Quiet: true}, log: new(warnings)}
	t.Cleanup(func() {
		if e.r != nil {
			e.r.Close()
		}
	})
	qt.Assert(t, qt.IsNil(e.open()))
	if ft.warm {
		ft.lookAt(e)
	}
	if ft.call.prepare != nil {
		qt.Assert(t, qt.IsNil(ft.call.prepare(e)))
	}
	return e
}

func (e *faultEnv) open() error {
	r, err := open(e.fs, root, "", &Options{MaxBytes: 1 << 40, Logger: slog.New(slog.NewTextHandler(e.log, nil))})
	if err == nil {
		e.r = r
	}
	return err
}

// close closes the registry, and leaves none.
func (e *faultEnv) close() error {
	r := e.r
	e.r = nil
	return r.Close()
}

// used returns how many bytes the registry has counted.
func (e *faultEnv) used() int64 {
	if e.r == nil {
		return 0
	}
	return e.r.quota.Used()
}

// lookAt returns what the registry shows, or a new one if there is none.
func (ft *faultTest) lookAt(e *faultEnv) []string {
	if e.r != nil {
		return ft.look(e.ctx, e.r)
	}
	if err := e.open(); err != nil {
		return []string{err.Error()}
	}
	defer e.close()
	return ft.look(e.ctx, e.r)
}

// warnings counts what was logged.
type warnings struct{ n atomic.Int64 }

func (w *warnings) Write(p []byte) (int, error) {
	w.n.Add(1)
	return len(p), nil
}

// isSentinel reports whether err is one that the registry returns when nothing
// is wrong with the system.
func isSentinel(err error) bool {
	var e ociregistry.Error
	return errors.As(err, &e)
}

// makesFile reports whether the call makes a blob that may be a file.
func (c *faultCall) makesFile() bool {
	return strings.Contains(c.name, "Blob") && !strings.Contains(c.name, "Delete") || strings.HasPrefix(c.name, "upload")
}

// run makes the call with all faults, or some of them.
func (ft *faultTest) run(t *testing.T) {
	bad := 0
	for n, call := range ft.systemCalls {
		if n%*faultsEvery != ft.first%min(*faultsEvery, len(ft.systemCalls)) && !*faultsLong {
			continue
		}
		op, _, _ := strings.Cut(call, " ")
		for i, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EACCES} {
			if !*faultsLong && i != n%3 {
				continue
			}
			half := (strings.HasPrefix(op, "write") || strings.HasPrefix(op, "read")) && n%4 < 2
			for _, f := range []disktest.Fault{
				{Call: n + 1, Errno: errno, Short: half},
				{Call: n + 1, Errno: errno, Stays: true},
			} {
				if f.Stays && !*faultsLong && n%6 != 0 {
					continue
				}
				var wrong []string
				synctest.Test(t, func(t *testing.T) { wrong = ft.try(t, f) })
				if len(wrong) > 0 {
					t.Errorf("%v: %s:\n\t%s", f, call, strings.Join(wrong, "\n\t"))
					bad++
				}
			}
			if bad > 3 {
				t.Fatal("and so on")
			}
		}
	}
}

// try makes the call with one fault, and returns what is wrong then.
func (ft *faultTest) try(t *testing.T, f disktest.Fault) (wrong []string) {
	wrongIf := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	e := ft.begin(t, ft.system.clone(t))
	used := e.used()
	there := files(e.fs)
	e.fs.Arm(f)
	warned := e.log.n.Load()
	answer, err := ft.call.run(e)
	_, hits := e.fs.Record()
	e.fs.Arm(disktest.Fault{})
	if len(hits) == 0 {
		return nil
	}
	// What it left out it said, and leaves out no more.
	partial := ft.call.partial && err == nil && e.log.n.Load() > warned
	if partial && ft.call.again == nil && ft.call.prepare == nil {
		answer, err = ft.call.run(e)
	}
	defer func() {
		if len(wrong) > 0 {
			wrong = append(wrong, fmt.Sprintf("the call was %s, the error %v", hits[0], err))
		}
	}()

	// What it said is true.
	failed := err != nil && ft.err == nil
	switch {
	case err != nil && (ft.err == nil || err.Error() != ft.err.Error()):
		failed = true
		wrongIf(!errors.Is(err, f.Errno), "the error does not say why: %v", err)
	case err == nil && ft.err != nil:
		wrongIf(true, "there is no error; it should be %v", ft.err)
	case err == nil:
		wrongIf(answer != ft.answer, "the answer is %s; it should be %s", answer, ft.answer)
	}
	if failed && ft.call.undo != nil {
		err := ft.call.undo(e)
		wrongIf(err != nil, "undoing it: %v", err)
	}
	want, wantFiles := ft.done, ft.filesDone
	if failed {
		want, wantFiles = ft.before, ft.filesBefore
	}
	got := ft.lookAt(e)
	// When all that failed is to make a name durable, or when undoing it failed,
	// too, it may be done. The error was true all the same. So it is with blobs
	// that are files: once a file has its name, others may rely on it, and it
	// cannot be taken back when the look at what happened meanwhile fails.
	late := f.Stays || strings.HasPrefix(hits[0], "syncdir ") || ft.call.makesFile() || ft.call.either
	if late && failed && slices.Equal(got, ft.done) && !slices.Equal(got, ft.before) {
		want, wantFiles = ft.done, ft.filesDone
	} else {
		late = false
	}
	difference(&wrong, "what the registry shows", got, want)
	// What could not be removed may stay until the next open, if it is staged,
	// or longer.
	tidy := !f.Stays && !strings.HasPrefix(hits[0], "remove ")
	if failed && !late && tidy && !ft.call.gradual {
		difference(&wrong, "what is left behind", leftover(there, files(e.fs)), nil)
	}
	lost := failed && ft.call.lost != nil && slices.ContainsFunc(hits, func(hit string) bool { return ft.call.lost(e, hit) })
	looked, left := ft.kill(t, e)
	difference(&wrong, "what is there after a kill", looked, want)
	if lost {
		return wrong
	}
	if !late && !ft.call.gradual {
		differentFiles(&wrong, "the files after a kill", tidy, left, wantFiles)
	}
	wrongIf(slices.ContainsFunc(left, func(name string) bool {
		rest, staged := strings.CutPrefix(name, layout.PrivateDir+"/staging/")
		return staged && rest != ""
	}), "something is staged after a kill")

	// It can be made again.
	if failed {
		again := ft.call.run
		if ft.call.again != nil {
			again = ft.call.again
		}
		answer, err := again(e)
		if late && ft.call.vanishes && isSentinel(err) {
			answer, err = ft.answer, ft.err
		}
		wrongIf(fmt.Sprint(err) != fmt.Sprint(ft.err), "again, the error is %v; it should be %v", err, ft.err)
		wrongIf(err == nil && answer != ft.answer, "again, the answer is %s; it should be %s", answer, ft.answer)
	}
	if ft.call.finish != nil {
		err := ft.call.finish(e)
		wrongIf(err != nil, "at the end: %v", err)
	}
	difference(&wrong, "what the registry shows at the end", ft.lookAt(e), ft.after)
	if tidy {
		counted := e.used() - used
		want := ft.used + ft.spare(e.fs)
		wrongIf(counted != want && !partial, "%d bytes are counted; it should be %d", counted, want)
	}
	if e.r != nil {
		err := e.close()
		wrongIf(err != nil, "closing: %v", err)
	}
	differentFiles(&wrong, "the files at the end", tidy, files(e.fs), ft.filesAfter)
	layouts := checkLayouts(e.fs, root, ft.after)
	wrongIf(layouts != nil, "at the end, %v", layouts)
	return wrong
}
