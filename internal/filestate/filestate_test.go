package filestate

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func TestState_IsTheSameUntilAFileChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write := func(name, text string) { qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte(text), 0o600))) }
	write(a, "1")
	qt.Check(t, qt.IsFalse(Look(a, b).Same(Look(a, b)))) // there is no b
	write(b, "1")
	for what, change := range map[string]func(){
		"longer":   func() { write(a, "12") },
		"later":    func() { qt.Assert(t, qt.IsNil(os.Chtimes(b, time.Time{}, time.Now().Add(time.Hour)))) },
		"replaced": func() { write(b+".new", "1"); qt.Assert(t, qt.IsNil(os.Rename(b+".new", b))) },
	} {
		before := Look(a, b)
		qt.Check(t, qt.IsTrue(Look(a, b).Same(before)), qt.Commentf(what))
		change()
		qt.Check(t, qt.IsFalse(Look(a, b).Same(before)), qt.Commentf(what))
	}
}
