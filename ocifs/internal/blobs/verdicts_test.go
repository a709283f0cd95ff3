package blobs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
)

// TestVerdicts_AreBounded records more verdicts than the maximum.
func TestVerdicts_AreBounded(t *testing.T) {
	t.Parallel()
	dir := scratch.Kept(t)
	var infos []os.FileInfo
	for i := range 2 * maxVerdictFiles {
		name := filepath.Join(dir, fmt.Sprint(i))
		qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte("x"), 0o666)))
		info, err := os.Lstat(name)
		qt.Assert(t, qt.IsNil(err))
		infos = append(infos, info)
	}
	var v verdicts
	later := time.Now().Add(time.Hour)
	d := digest.FromString("x")
	for _, intact := range []bool{true, false} {
		for i, info := range infos {
			v.note(d, info, later, intact)
			v.note(d, info, later, intact) // again
			qt.Check(t, qt.Equals(v.isIntact(d, info), intact))
			qt.Check(t, qt.Equals(v.isDamaged(d, info), !intact))
			qt.Check(t, qt.Equals(v.isDamaged(d, infos[0]) || v.isIntact(d, infos[0]), i < maxVerdictFiles))
		}
	}
	for i := range maxVerdicts + 100 {
		v.note(digest.FromString(fmt.Sprint(i)), infos[0], later, i%2 == 0)
	}
	qt.Check(t, qt.HasLen(v.files, maxVerdicts))
	last := digest.FromString(fmt.Sprint(maxVerdicts + 98))
	qt.Check(t, qt.IsTrue(v.isIntact(last, infos[0])))
}
