package ocifs_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
)

// inode returns the file of a blob.
func inode(t testing.TB, name string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(name)
	qt.Assert(t, qt.IsNil(err))
	return info
}

// A blob in two repositories is one file, however it got there.
func TestSharedBlob_IsOneFile(t *testing.T) {
	t.Parallel()
	second := map[string]func(ctx context.Context, r ociregistry.Interface, repo string, content []byte) error{
		"PushBlob": pushBlob,
		"Commit":   upload,
		"MountBlob": func(ctx context.Context, r ociregistry.Interface, repo string, content []byte) error {
			_, err := r.MountBlob(ctx, "a", repo, describe(content).Digest)
			return err
		},
		"MountBlob from anywhere": func(ctx context.Context, r ociregistry.Interface, repo string, content []byte) error {
			_, err := r.MountBlob(ctx, "", repo, describe(content).Digest)
			return err
		},
	}
	for firstName, first := range pushes {
		for secondName, second := range second {
			for _, restart := range []bool{false, true} {
				t.Run(firstName+" then "+secondName+map[bool]string{true: " after restart"}[restart], func(t *testing.T) {
					t.Parallel()
					f := newFixture(t, ocifs.Options{})
					for i, size := range []int64{0, 10, 16 << 10, 16<<10 + 1, 300_000} {
						content := data(uint64(i), size)
						d := describe(content).Digest
						qt.Assert(t, qt.IsNil(first(t.Context(), f, "a", content)))
						if restart {
							f.reopen()
						}
						qt.Assert(t, qt.IsNil(second(t.Context(), f, "b", content)))
						f.reopen()
						qt.Check(t, qt.IsTrue(os.SameFile(inode(t, f.blobPath("a", d)), inode(t, f.blobPath("b", d)))), qt.Commentf("%d bytes", size))

						for _, repos := range [][2]string{{"a", "b"}, {"b", "a"}} {
							gone, stays := repos[0], repos[1]
							qt.Assert(t, qt.IsNil(f.DeleteBlob(t.Context(), gone, d)))
							_, err := os.Lstat(f.blobPath(gone, d))
							qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
							wantBlob(t, f, stays, content)
							_, err = f.MountBlob(t.Context(), stays, gone, d) // back again
							qt.Assert(t, qt.IsNil(err))
							qt.Check(t, qt.IsTrue(os.SameFile(inode(t, f.blobPath("a", d)), inode(t, f.blobPath("b", d)))))
						}
					}
				})
			}
		}
	}
}

// Mounting a blob that another program wrote shares its file.
func TestMountBlob_SharesFileOfOtherProgram(t *testing.T) {
	t.Parallel()
	f := newFixture(t, ocifs.Options{})
	content := data(1, 50_000)
	d := newForeign(t, f.path("a")).blob(content).Digest
	_, err := f.MountBlob(t.Context(), "a", "b", d)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(os.SameFile(inode(t, f.blobPath("a", d)), inode(t, f.blobPath("b", d)))))
	must(t, f).MustPushBlob("c", content)
	qt.Check(t, qt.IsTrue(os.SameFile(inode(t, f.blobPath("a", d)), inode(t, f.blobPath("c", d)))))
	for _, repo := range []string{"a", "b", "c"} {
		wantBlob(t, f, repo, content)
	}
}

// When a blob is deleted from the last repository that has it, its bytes are removed
// from the disk.
func TestDeleteBlob_FromLastRepositoryFreesBytes(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{100, 50_000} {
		for _, restart := range []bool{false, true} {
			f := newFixture(t, ocifs.Options{})
			content := data(1, size)
			d := describe(content).Digest
			for _, repo := range []string{"a", "b"} {
				must(t, f).MustPushBlob(repo, content)
			}
			if restart {
				f.reopen()
			}
			qt.Assert(t, qt.IsNil(f.DeleteBlob(t.Context(), "a", d)))
			wantRepositories(t, f, "b")
			qt.Assert(t, qt.IsNil(f.DeleteBlob(t.Context(), "b", d)))
			wantRepositories(t, f)
			f.close()
			for name, what := range tree(t, f.dir) {
				qt.Check(t, qt.IsFalse(strings.Contains(what, string(content))), qt.Commentf(name))
				qt.Check(t, qt.Not(qt.Equals(filepath.Base(name), d.Encoded())))
			}
			for _, repo := range []string{"a", "b"} {
				_, err := os.Lstat(f.path(repo))
				qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
			}
		}
	}
}

// Deleting a blob from one repository keeps it in others, in both backends.
func TestDeleteBlob_KeepsBlobInOtherRepository(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, r ociregistry.Interface) {
		for i, size := range uploadSizes {
			content := data(uint64(i), size)
			d := describe(content).Digest
			must(t, r).MustPushBlob("a", content)
			must(t, r).MustPushBlob("b", content)
			_, err := r.MountBlob(t.Context(), "a", "c", d)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(r.DeleteBlob(t.Context(), "a", d)))
			wantBlob(t, r, "b", content)
			wantBlob(t, r, "c", content)
			must(t, r).MustPushBlob("keep", []byte("keep"))
			must(t, r).MustPushBlob("a", []byte("keep"))
			wantNoBlob(t, r, "a", d)
		}
	})
}
