//go:build unix

package ocifs

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ocifs/internal/layout"
	"github.com/seed-40b21970/oci/ociregistry"
)

// kill returns what a new registry shows when the process is killed now, and
// which files there are after it was closed.
func (ft *faultTest) kill(t *testing.T, e *faultEnv) (looked, left []string) {
	killed := e.fs.FS.(faultSystem).clone(t)
	r, err := open(killed, root, "", nil)
	if err == nil {
		looked = ft.look(e.ctx, r)
		err = r.Close()
	}
	if err != nil {
		return append(looked, err.Error()), nil
	}
	return looked, files(killed)
}

// files returns the names of all files and directories, but not how upload
// sessions are named, nor snapshots and pulls, nor what tells other processes which sessions
// have ended: that these cannot be written is a warning.
func files(fsys disk.FS) (names []string) {
	for _, name := range listFiles(fsys, root) {
		if strings.HasPrefix(name, layout.PrivateDir+"/ended/") || strings.HasPrefix(name, layout.PrivateDir+"/pulls") || path.Base(name) == "snapshot" {
			continue
		}
		if dir, file := path.Split(name); dir == layout.PrivateDir+"/uploads/" && file != "" {
			name = dir + "ID" + path.Ext(file)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// spare returns how many bytes are in the pool that no repository needs. They
// stay there when the registry cannot find out that nobody needs them.
func (ft *faultTest) spare(fsys disk.FS) (n int64) {
	for _, name := range listFiles(fsys, root) {
		if hex, ok := strings.CutPrefix(name, pool); ok && hex != "" && !slices.Contains(ft.filesAfter, name) {
			n += ft.size(ociregistry.Digest("sha256:" + hex))
		}
	}
	return n
}

// pool is where the pool is in the root.
const pool = layout.PrivateDir + "/blobs/sha256/"

// differentFiles adds to wrong how files differ from what they should be. The
// pool may have others. There may be more that are not content, and if something
// could not be removed, more of any kind.
func differentFiles(wrong *[]string, what string, tidy bool, got, want []string) {
	want = slices.DeleteFunc(slices.Clone(want), func(name string) bool {
		return strings.HasPrefix(name, pool) && !slices.Contains(got, name)
	})
	got = slices.DeleteFunc(slices.Clone(got), func(name string) bool {
		return !slices.Contains(want, name) && !(tidy && isContent(name) && !strings.HasPrefix(name, pool))
	})
	if !tidy {
		got, want = slices.Compact(got), slices.Compact(want)
	}
	difference(wrong, what, got, want)
}

// leftover returns which files are there now that were not before. Directories
// and empty layouts are nothing.
func leftover(before, now []string) (names []string) {
	for _, name := range now {
		if !slices.Contains(before, name) && isContent(name) && !strings.HasSuffix(name, ".lock") {
			names = append(names, name)
		}
	}
	return names
}

// isContent reports whether a file has a blob, a manifest, or a part of one.
func isContent(name string) bool {
	dir, file := path.Split(name)
	return file != "" && (strings.HasSuffix(dir, "blobs/sha256/") || strings.HasPrefix(dir, layout.PrivateDir+"/uploads/") ||
		strings.HasPrefix(dir, layout.PrivateDir+"/staging/"))
}

// difference adds to wrong how a list differs from what it should be.
func difference(wrong *[]string, what string, got, want []string) {
	if slices.Equal(got, want) {
		return
	}
	var lines []string
	for _, line := range got {
		if !slices.Contains(want, line) {
			lines = append(lines, "+ "+line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			lines = append(lines, "- "+line)
		}
	}
	if len(lines) == 0 {
		lines = []string{fmt.Sprintf("%d lines, not %d", len(got), len(want))}
	}
	if len(lines) > 6 {
		lines = append(lines[:6], "…")
	}
	*wrong = append(*wrong, what+":\n\t\t"+strings.Join(lines, "\n\t\t"))
}
