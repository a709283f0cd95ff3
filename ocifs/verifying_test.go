package ocifs_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
)

// blobDamages are what can be where the file of a blob was.
var blobDamages = map[string]func(t *testing.T, name, text string){
	"cut":         func(t *testing.T, name, text string) { writeFile(t, name, text[:500]) },
	"a byte less": func(t *testing.T, name, text string) { writeFile(t, name, text[:len(text)-1]) },
	"a byte more": func(t *testing.T, name, text string) { writeFile(t, name, text+"x") },
	"first byte":  func(t *testing.T, name, text string) { writeFile(t, name, flipped(text, 0)) },
	"last byte":   func(t *testing.T, name, text string) { writeFile(t, name, flipped(text, len(text)-1)) },
	"another file": func(t *testing.T, name, text string) {
		overwrites["by another file"](t, name, strings.Repeat("x", len(text)))
	},
	"an empty file": func(t *testing.T, name, text string) { writeFile(t, name, "") },
	"a directory":   func(t *testing.T, name, text string) { remake(t, name); qt.Assert(t, qt.IsNil(os.Mkdir(name, 0o777))) },
	"a link out":    linkOut,
	"a link that is dead": func(t *testing.T, name, text string) {
		remake(t, name)
		qt.Assert(t, qt.IsNil(os.Symlink("nowhere", name)))
	},
}

// flipped returns text with another byte at i.
func flipped(text string, i int) string { return text[:i] + string([]byte{text[i] ^ 1}) + text[i+1:] }

func remake(t *testing.T, name string) { qt.Assert(t, qt.IsNil(os.Remove(name))) }

func linkOut(t *testing.T, name, text string) {
	remake(t, name)
	target := filepath.Join(t.TempDir(), "secret")
	writeFile(t, target, strings.Repeat("s", len(text)))
	qt.Assert(t, qt.IsNil(os.Symlink(target, name)))
}

// wholeReads are ways to read a blob that have its last byte. They return how many
// bytes they got.
var wholeReads = map[string]func(r ociregistry.BlobReader, size int64) (int64, error){
	"Read": func(r ociregistry.BlobReader, _ int64) (int64, error) {
		return io.Copy(onlyWriter{io.Discard}, onlyReader{r})
	},
	"Read, slowly": func(r ociregistry.BlobReader, _ int64) (int64, error) {
		return io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{r}, make([]byte, 1000))
	},
	"WriteTo": func(r ociregistry.BlobReader, _ int64) (int64, error) {
		return r.(io.WriterTo).WriteTo(new(bytes.Buffer))
	},
	"WriteTo a plain writer": func(r ociregistry.BlobReader, _ int64) (int64, error) {
		return r.(io.WriterTo).WriteTo(onlyWriter{io.Discard})
	},
	"WriteTo after Read": func(r ociregistry.BlobReader, _ int64) (int64, error) {
		n, err := r.Read(make([]byte, 100))
		if err != nil {
			return int64(n), err
		}
		written, err := r.(io.WriterTo).WriteTo(new(bytes.Buffer))
		return int64(n) + written, err
	},
	"WriteTo after Seek": func(r ociregistry.BlobReader, size int64) (int64, error) {
		if _, err := r.(io.Seeker).Seek(300, io.SeekStart); err != nil {
			return 0, err
		}
		n, err := r.(io.WriterTo).WriteTo(new(bytes.Buffer))
		return 300 + n, err
	},
	"Read after Seek": func(r ociregistry.BlobReader, size int64) (int64, error) {
		if _, err := r.(io.Seeker).Seek(-1, io.SeekEnd); err != nil {
			return 0, err
		}
		n, err := io.Copy(io.Discard, onlyReader{r})
		return size - 1 + n, err
	},
	"Seek back and forth": func(r ociregistry.BlobReader, size int64) (int64, error) {
		for _, offset := range []int64{10, 200, 100, 0, 150} {
			if _, err := r.(io.Seeker).Seek(offset, io.SeekStart); err != nil {
				return 0, err
			}
			if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
				return 0, err
			}
		}
		n, err := io.Copy(io.Discard, onlyReader{r})
		return 250 + n, err
	},
	"ReadAt": func(r ociregistry.BlobReader, size int64) (int64, error) {
		n, err := r.(io.ReaderAt).ReadAt(make([]byte, size), 0)
		return int64(n), err
	},
	"ReadAt beyond the end": func(r ociregistry.BlobReader, size int64) (int64, error) {
		n, err := r.(io.ReaderAt).ReadAt(make([]byte, size), 400)
		if err == io.EOF {
			err = nil
		}
		return 400 + int64(n), err
	},
	"ReadAt the last byte": func(r ociregistry.BlobReader, size int64) (int64, error) {
		n, err := r.(io.ReaderAt).ReadAt(make([]byte, 1), size-1)
		return size - 1 + int64(n), err
	},
}

// onlyReader and onlyWriter hide other methods.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// verifiedViews are the registries whose reads are verified.
var verifiedViews = map[string]func(f *fixture) ociregistry.Interface{
	"Verified":            func(f *fixture) ociregistry.Interface { return f.Verified() },
	"Options.VerifyReads": func(f *fixture) ociregistry.Interface { f.opts.VerifyReads = true; f.reopen(); return f.Registry },
	"Verified of a view's": func(f *fixture) ociregistry.Interface {
		return f.Verified().(interface{ Verified() ociregistry.Interface }).Verified()
	},
	"Verified of one layout":  func(f *fixture) ociregistry.Interface { return f.Verified() },
	"Verified, and read only": func(f *fixture) ociregistry.Interface { f.opts.ReadOnly = true; f.reopen(); return f.Verified() },
}

// A damaged blob of unknown size is never returned completely, however it is read.
// From then on it is missing, and a push restores it.
func TestVerifiedReadsDoNotEndWithDamage(t *testing.T) {
	t.Parallel()
	contents := data(1, 300_000)
	d := describe(contents).Digest
	for what, damage := range blobDamages {
		for how, wholeRead := range wholeReads {
			t.Run(what+"/"+how, func(t *testing.T) {
				t.Parallel()
				for name, open := range verifiedViews {
					if name != "Verified" && how != "Read" && how != "WriteTo" {
						continue
					}
					f := newFixture(t, ocifs.Options{})
					if strings.Contains(name, "layout") {
						f = openFixture(t, scratch.Dir(t), "foo", ocifs.Options{})
					}
					must(t, f).MustPushBlob("foo", []byte("another"))
					must(t, f).MustPushBlob("foo", contents)
					damage(t, f.blobPath("foo", d), string(contents))
					wantDamaged(t, open(f), d, wholeRead)
					wantNoBlob(t, f, "foo", d)
					if f.opts.ReadOnly || what == "a directory" {
						continue
					}
					must(t, f).MustPushBlob("foo", contents)
					wantWhole(t, open(f), contents)
					f.reopen()
					f.layout("foo") // all files have the bytes of their names
				}
			})
		}
	}
}

// wantDamaged reads a blob that is damaged, in the repository foo.
func wantDamaged(t *testing.T, r ociregistry.Interface, d ociregistry.Digest, wholeRead func(ociregistry.BlobReader, int64) (int64, error)) {
	t.Helper()
	br, err := r.GetBlob(t.Context(), "foo", d)
	if err == nil {
		size := br.Descriptor().Size
		for range 2 { // it stays damaged
			n, err := wholeRead(br, size)
			qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrDigestInvalid)))
			qt.Check(t, qt.IsTrue(n < size), qt.Commentf("%d bytes of %d", n, size))
		}
		qt.Check(t, qt.IsNil(br.Close()))
	} else {
		qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
	}
	wantNoBlob(t, r, "foo", d)
}

// wantWhole reads a blob of the repository foo in all ways.
func wantWhole(t *testing.T, r ociregistry.Interface, contents []byte) {
	t.Helper()
	for how, wholeRead := range wholeReads {
		br, err := r.GetBlob(t.Context(), "foo", describe(contents).Digest)
		qt.Assert(t, qt.IsNil(err))
		n, err := wholeRead(br, int64(len(contents)))
		qt.Check(t, qt.IsNil(err), qt.Commentf(how))
		qt.Check(t, qt.Equals(n, int64(len(contents))), qt.Commentf(how))
		qt.Check(t, qt.IsNil(br.Close()))
	}
	wantBlob(t, r, "foo", contents)
}

// A verifying reader reads like any other.
func TestVerifyingReaderReads(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{1, 100, 20_000} { // byte by byte, which takes its time
		f := newFixture(t, ocifs.Options{})
		contents := data(1, size)
		must(t, f).MustPushBlob("foo", contents)
		f.reopen() // so that it is a file
		for range 2 {
			br, err := f.Verified().GetBlob(t.Context(), "foo", describe(contents).Digest)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsNil(iotest.TestReader(br, contents)))
			qt.Check(t, qt.IsNil(br.Close()))
		}
		br, err := f.Verified().GetBlobRange(t.Context(), "foo", describe(contents).Digest, size/2, -1)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(iotest.TestReader(br, contents[size/2:])))
		qt.Check(t, qt.IsNil(br.Close()))
	}
	f := newFixture(t, ocifs.Options{})
	must(t, f).MustPushBlob("foo", nil)
	wantBlob(t, f.Verified(), "foo", nil)
}

// A range of all bytes is verified. Other ranges are checked by size, once that is
// known.
func TestVerifiedRanges(t *testing.T) {
	t.Parallel()
	contents := data(1, 40_000)
	d := describe(contents).Digest
	readRange := func(t *testing.T, r ociregistry.Interface, from, to int64) error {
		_, err := read(r.GetBlobRange(t.Context(), "foo", d, from, to))
		return err
	}
	for what, damage := range blobDamages {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, ocifs.Options{})
			must(t, f).MustPushBlob("foo", []byte("another"))
			must(t, f).MustPushBlob("foo", contents)
			damage(t, f.blobPath("foo", d), string(contents))
			if err := readRange(t, f.Verified(), 0, -1); !errors.Is(err, ociregistry.ErrDigestInvalid) {
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
			}
			qt.Check(t, qt.ErrorIs(readRange(t, f.Verified(), 1, 100), error(ociregistry.ErrBlobUnknown)))

			f = newFixture(t, ocifs.Options{})
			must(t, f).MustPushBlob("foo", []byte("another"))
			must(t, f).MustPushBlob("foo", contents)
			wantBlob(t, f.Verified(), "foo", contents)
			damage(t, f.blobPath("foo", d), string(contents))
			err := readRange(t, f.Verified(), 1, 100)
			switch what {
			case "first byte", "last byte", "another file": // which have the right size
				qt.Check(t, qt.IsNil(err))
			default:
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
				_, err := f.Verified().ResolveBlob(t.Context(), "foo", d)
				qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
			}
		})
	}
}

// A verified file that is written to is verified again.
func TestVerifiedFilesThatChange(t *testing.T) {
	t.Parallel()
	contents := data(1, 40_000)
	d := describe(contents).Digest
	for what, damage := range blobDamages {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, old := range []bool{false, true} {
				f := newFixture(t, ocifs.Options{})
				must(t, f).MustPushBlob("foo", []byte("another"))
				must(t, f).MustPushBlob("foo", contents)
				if old {
					makeOld(t, f.blobPath("foo", d))
				}
				for range 2 {
					wantWhole(t, f.Verified(), contents)
				}
				damage(t, f.blobPath("foo", d), string(contents))
				wantDamaged(t, f.Verified(), d, wholeReads["WriteTo"])
			}
		})
	}
}

// makeOld makes a file look as if it had not been written to for long.
func makeOld(t testing.TB, name string) {
	t.Helper()
	hourAgo := time.Now().Add(-time.Hour)
	qt.Assert(t, qt.IsNil(os.Chtimes(name, hourAgo, hourAgo)))
}

// Damage to a shared file affects all repositories. A push repairs it in one, from
// which the others can get it; the damaged file is no longer linked.
func TestDamageIsNotShared(t *testing.T) {
	t.Parallel()
	contents := data(1, 40_000)
	d := describe(contents).Digest
	for pushName, push := range pushes {
		for _, target := range []string{"foo", "new"} {
			t.Run(pushName+" to "+target, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, ocifs.Options{})
				for _, repo := range []string{"foo", "bar"} {
					must(t, f).MustPushBlob(repo, []byte("another"))
					qt.Assert(t, qt.IsNil(push(t.Context(), f, repo, contents)))
				}
				writeFile(t, f.blobPath("foo", d), string(contents[:39_999])+"x")
				wantDamaged(t, f.Verified(), d, wholeReads["Read"])
				wantNoBlob(t, f, "bar", d)
				for _, from := range []string{"", "foo", "bar"} {
					_, err := f.MountBlob(t.Context(), from, "new", d)
					qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
				}
				qt.Assert(t, qt.IsNil(push(t.Context(), f, target, contents)))
				wantBlob(t, f.Verified(), target, contents)
				for _, repo := range []string{"foo", "bar", "another"} {
					if repo != target && repo != "another" {
						wantNoBlob(t, f, repo, d)
					}
					_, err := f.MountBlob(t.Context(), target, repo, d)
					qt.Assert(t, qt.IsNil(err))
					wantBlob(t, f.Verified(), repo, contents)
				}
				_, err := f.MountBlob(t.Context(), "", "last", d)
				qt.Assert(t, qt.IsNil(err))
				wantBlob(t, f.Verified(), "last", contents)
				f.reopen()
				qt.Check(t, qt.HasLen(problems(t, f), 0))
			})
		}
	}
}

// The pool's file may be damaged while those of the layouts are intact.
func TestDamageInThePoolIsNotMounted(t *testing.T) {
	t.Parallel()
	contents := data(1, 40_000)
	d := describe(contents).Digest
	f := newFixture(t, ocifs.Options{})
	must(t, f).MustPushBlob("foo", []byte("another"))
	must(t, f).MustPushBlob("foo", contents)
	writeFile(t, f.blobPath("foo", d), strings.Repeat("x", len(contents)))
	wantDamaged(t, f.Verified(), d, wholeReads["Read"])
	overwrites["by another file"](t, f.blobPath("foo", d), string(contents)) // repaired by hand
	wantBlob(t, f.Verified(), "foo", contents)
	_, err := f.MountBlob(t.Context(), "", "new", d)
	qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrBlobUnknown)))
	for i, from := range []string{"foo", ""} {
		repo := string(rune('a' + i))
		_, err := f.MountBlob(t.Context(), from, repo, d)
		qt.Assert(t, qt.IsNil(err))
		wantBlob(t, f.Verified(), repo, contents)
	}
}

// Damaged content can be deleted.
func TestDamagedBlobIsDeleted(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{1000, 40_000} {
		contents := data(1, size)
		d := describe(contents).Digest
		f := newFixture(t, ocifs.Options{})
		must(t, f).MustPushBlob("foo", []byte("another"))
		must(t, f).MustPushBlob("foo", contents)
		f.reopen()
		writeFile(t, f.blobPath("foo", d), string(contents[1:]))
		wantDamaged(t, f.Verified(), d, wholeReads["Read"])
		qt.Assert(t, qt.IsNil(f.DeleteBlob(t.Context(), "foo", d)))
		_, err := os.Lstat(f.blobPath("foo", d))
		qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
		must(t, f).MustPushBlob("foo", contents)
		wantBlob(t, f.Verified(), "foo", contents)
	}
}

// A damaged manifest is unknown, to Resolve too, and a push restores it.
func TestVerifiedManifests(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(string) string{
		"cut":          func(s string) string { return s[:len(s)/2] },
		"other":        func(s string) string { return strings.Replace(s, "manifest", "MANIFEST", 1) },
		"longer":       func(s string) string { return s + " " },
		"no JSON":      func(s string) string { return strings.Repeat("x", len(s)) },
		"an empty one": func(s string) string { return "" },
	} {
		for how, overwrite := range overwrites {
			t.Run(what+" "+how, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, ocifs.Options{})
				a := image(1)
				must(t, f).MustPush("foo", a, "v1")
				f.reopen()
				overwrite(t, f.blobPath("foo", a.Descriptor.Digest), damage(string(a.Manifest)))
				v := f.Verified()
				for range 2 {
					_, err := read(v.GetTag(t.Context(), "foo", "v1"))
					qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
					wantNoManifest(t, v, "foo", a.Descriptor.Digest)
					_, err = v.ResolveTag(t.Context(), "foo", "v1")
					qt.Check(t, qt.ErrorIs(err, error(ociregistry.ErrManifestUnknown)))
				}
				must(t, f).MustPush("foo", a, "v1")
				wantArtifact(t, v, "foo", a, "v1")
				f.reopen()
				wantArtifact(t, f.Verified(), "foo", a, "v1")
			})
		}
	}
}

// Several goroutines may read from one reader, and from several, at once.
func TestVerifyingReaderIsSafe(t *testing.T) {
	t.Parallel()
	contents := data(1, 1<<20)
	d := describe(contents).Digest
	f := newFixture(t, ocifs.Options{})
	must(t, f).MustPushBlob("foo", contents)
	br, err := f.Verified().GetBlob(t.Context(), "foo", d)
	qt.Assert(t, qt.IsNil(err))
	defer br.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		got, err := io.ReadAll(onlyReader{br})
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(bytes.Equal(got, contents)))
	})
	for i := range 8 {
		wg.Go(func() {
			part := len(contents) / 8
			got := make([]byte, part)
			_, err := br.(io.ReaderAt).ReadAt(got, int64(i*part))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(bytes.Equal(got, contents[i*part:(i+1)*part])))
			wantBlob(t, f.Verified(), "foo", contents)
		})
	}
	wg.Wait()
}
