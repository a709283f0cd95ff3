//go:build unix

package ocifs_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// A directory in which one file is not what it should be: what is documented happens,
// nothing else is concerned, nothing is served that is not what its name says, nothing
// whole is deleted, and nothing hangs.

// bed is a directory in which a test is to damage something. The repository app has
// all that is damaged, other shares a layer with it.
type bed struct {
	image, index, signature *ocitest.Artifact // of app, the first two tagged v1 and latest
	loose                   []byte            // a blob of app that nothing names
	upload                  string            // the id of a session of app
}

const bedRepo = "app"

var newBed = sync.OnceValues(func() (*bed, fs.FS) {
	b := &bed{image: image(1), loose: data(7, 30)}
	b.index = ocitest.NewIndex(ocitest.Spec{}, b.image)
	b.signature = signatureOf(b.image, 5)
	dir, err := os.MkdirTemp("", "ocifs-bed-")
	if err == nil {
		err = b.fill(dir)
	}
	if err != nil {
		panic(err)
	}
	return b, os.DirFS(dir)
})

func (b *bed) fill(dir string) error {
	r, err := ocifs.New(dir, &ocifs.Options{NoSync: true})
	if err != nil {
		return err
	}
	ctx := t0
	w, err := r.PushBlobChunked(ctx, bedRepo, 0)
	if err == nil {
		b.upload = w.ID()
		_, err = w.Write(data(8, 20_000))
	}
	return errors.Join(err, w.Close(), b.push(r),
		image(2).Push(ctx, r, "other", "v1"), sharing.Push(ctx, r, "other", "shared"), r.Close())
}

// sharing is an image with the layers of image(1).
var sharing = ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 40_000}, Annotations: map[string]string{"of": "other"}})

// push pushes all that app has.
func (b *bed) push(r ociregistry.Interface) error {
	return errors.Join(b.image.Push(t0, r, bedRepo, "v1"), b.index.Push(t0, r, bedRepo, "latest"),
		b.signature.Push(t0, r, bedRepo), pushBlob(t0, r, bedRepo, b.loose))
}

// harms are what can become of a file. Each gets its text, and leaves that beside it
// if it is asked to.
var harms = map[string]func(name, text string) error{
	"missing": func(name, text string) error { return nil },
	"empty":   func(name, text string) error { return os.WriteFile(name, nil, 0o666) },
	"cut":     func(name, text string) error { return os.WriteFile(name, []byte(text[:len(text)/2]), 0o666) },
	"garbage": func(name, text string) error {
		return os.WriteFile(name, []byte(strings.Repeat("\x00garbage\xff", 1+len(text)/7)), 0o666)
	},
	"other content": func(name, text string) error {
		flip := func(r rune) rune { return r ^ 1 }
		return os.WriteFile(name, []byte(strings.Map(flip, strings.ToValidUTF8(text, "?")) + strings.Repeat("?", len(text)))[:len(text)], 0o666)
	},
	"directory": func(name, text string) error {
		return errors.Join(os.Mkdir(name, 0o777), os.WriteFile(filepath.Join(name, "file"), []byte(text), 0o666))
	},
	"link": func(name, text string) error {
		return errors.Join(os.WriteFile(name+".saved", []byte(text), 0o666), os.Symlink(name+".saved", name))
	},
	"FIFO": func(name, text string) error { return syscall.Mkfifo(name, 0o666) },
	"mode 000": func(name, text string) error {
		return errors.Join(os.WriteFile(name, []byte(text), 0o666), os.Chmod(name, 0))
	},
}

// outcome is what is documented to become of a call.
type outcome int

const (
	fine    outcome = iota
	unknown         // ErrBlobUnknown or ErrManifestUnknown
	failure         // an error of another kind: it may be there
	inUse           // ErrInUse: nobody knows whether it may go
	left            // the list is without what is damaged
	changed         // other bytes of the right length, which reads of blobs do not look at
	either          // fine or left
)

// outcomes has what is not fine, by the names of calls.
type outcomes map[string]outcome

// victims are the files that are damaged, and what that means.
var victims = []struct {
	name string
	path func(b *bed) string
	want func(harm string) outcomes
}{
	{"layer", func(b *bed) string { return bedBlob(b.image.Blobs[2].Descriptor.Digest) }, func(harm string) outcomes {
		return ofBlob(harm, "layer")
	}},
	{"config", func(b *bed) string { return bedBlob(b.image.Blobs[0].Descriptor.Digest) }, func(harm string) outcomes {
		return ofBlob(harm, "config")
	}},
	{"image", func(b *bed) string { return bedBlob(b.image.Descriptor.Digest) }, func(harm string) outcomes {
		return ofManifest(harm, "image", "v1", outcomes{"DeleteBlob": inUse})
	}},
	{"index", func(b *bed) string { return bedBlob(b.index.Descriptor.Digest) }, func(harm string) outcomes {
		return ofManifest(harm, "index", "latest", outcomes{"DeleteBlob": inUse, "DeleteManifest": inUse})
	}},
	{"signature", func(b *bed) string { return bedBlob(b.signature.Descriptor.Digest) }, func(harm string) outcomes {
		return ofManifest(harm, "signature", "", outcomes{"DeleteBlob": inUse, "Referrers": left})
	}},
	{"index.json", func(b *bed) string { return bedRepo + "/index.json" }, ofRepository},
	{"oci-layout", func(b *bed) string { return bedRepo + "/oci-layout" }, nil},
	{"journal", func(b *bed) string { return bedRepo + "/.ocifs/journal" }, func(harm string) outcomes {
		switch harm {
		case "directory", "link", "FIFO", "mode 000":
			return ofRepository(harm)
		}
		return nil
	}},
	{"pool", func(b *bed) string { return ".ocifs/" + blobName(b.image.Blobs[2].Descriptor.Digest) }, nil},
	{"upload", func(b *bed) string { return ".ocifs/uploads/" + b.upload }, ofUpload},
	{"state of an upload", func(b *bed) string { return ".ocifs/uploads/" + b.upload + ".state" }, ofUpload},
	{"key of uploads", func(b *bed) string { return ".ocifs/uploads.key" }, func(harm string) outcomes {
		if harm == "mode 000" {
			return outcomes{"PushBlobChunked": failure}
		}
		return nil
	}},
	{"mark", func(b *bed) string { return ".ocifs/unfolded/" + strings.ReplaceAll(bedRepo, "/", "!") }, nil},
	{"lock", func(b *bed) string { return ".ocifs/staging/ABCDEFGH.lock" }, nil},
	{"staging", func(b *bed) string { return ".ocifs/staging/ABCDEFGH" }, nil},
}

func blobName(d ociregistry.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}
func bedBlob(d ociregistry.Digest) string { return bedRepo + "/" + blobName(d) }

func ofBlob(harm, name string) outcomes {
	get := outcomes{"GetBlob " + name: unknown, "GetBlobRange " + name: unknown, "ResolveBlob " + name: unknown}
	switch harm {
	case "other content":
		get = outcomes{"GetBlob " + name: changed, "GetBlobRange " + name: changed}
	case "mode 000":
		get = outcomes{"GetBlob " + name: failure, "GetBlobRange " + name: failure}
	}
	return get
}

// ofManifest returns what becomes of calls about a manifest and its tag, and of others.
func ofManifest(harm, name, tag string, others outcomes) outcomes {
	get := unknown
	if harm == "mode 000" {
		get = failure
	}
	others["GetManifest "+name], others["GetTag "+tag] = get, get
	if harm != "mode 000" { // which leaves its size and its entry
		others["ResolveManifest "+name], others["ResolveTag "+tag] = unknown, unknown
		if tag != "" {
			others["Tags"] = left
		}
	}
	return others
}

// ofRepository is for what the repository cannot be opened with.
func ofRepository(harm string) outcomes {
	all := outcomes{"Repositories": either}
	for _, c := range bedCalls {
		if !strings.HasSuffix(c.name, "other") && c.name != "Repositories" {
			all[c.name] = failure
		}
	}
	return all
}

func ofUpload(string) outcomes { return outcomes{"resume": either} }

// TestDamagedDirectory makes every call on a directory, for each kind of damage to
// each file.
func TestDamagedDirectory(t *testing.T) {
	t.Parallel()
	b, template := newBed()
	for _, v := range victims {
		for harmName, harm := range harms {
			if harmName == "mode 000" && os.Geteuid() == 0 {
				continue // it is none to root: see TestDamagedDirectory_AsAnotherUser
			}
			t.Run(v.name+"/"+harmName, func(t *testing.T) {
				t.Parallel()
				damaged := func() (f *fixture, path string) {
					dir := scratch.Dir(t)
					qt.Assert(t, qt.IsNil(os.CopyFS(dir, template)))
					path = filepath.Join(dir, v.path(b))
					text, err := os.ReadFile(path)
					if err != nil {
						text = []byte("of a process that died")
					}
					os.MkdirAll(filepath.Dir(path), 0o777)
					os.RemoveAll(path)
					qt.Assert(t, qt.IsNil(harm(path, string(text))))
					return &fixture{t: t, dir: dir, opts: ocifs.Options{NoSync: true}}, path
				}
				var want outcomes
				if v.want != nil {
					want = v.want(harmName)
				}
				inTime(t, func() { b.testCalls(t, damaged, want) })
				inTime(t, func() { b.testRepair(t, damaged, harmName == "mode 000" && v.path(b)[:3] == "app") })
			})
		}
	}
}

// TestDamagedDirectory_AsAnotherUser runs the tests of unreadable files as a user
// other than root, since root can read everything.
func TestDamagedDirectory_AsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // this user already runs them
	}
	t.Parallel()
	dir, err := os.MkdirTemp("", "ocifs-user-")
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile(mustExecutable(t))
	qt.Assert(t, qt.IsNil(err))
	binary := filepath.Join(dir, "ocifs.test")
	qt.Assert(t, qt.IsNil(os.WriteFile(binary, self, 0o755)))
	qt.Assert(t, qt.IsNil(errors.Join(os.Chmod(dir, 0o777), os.Chmod(binary, 0o755))))
	var others []string // kinds of damage that do not depend on the user
	for harm := range harms {
		if harm != "mode 000" {
			others = append(others, strings.ReplaceAll(harm, " ", "_"))
		}
	}
	cmd := exec.CommandContext(t.Context(), binary,
		"-test.run=^(TestDamagedDirectory|TestUnreadable.*|TestUnlisted.*|TestDelete_RefusesWhenUseIsUnknown)$",
		"-test.skip=^TestDamagedDirectory$/.*/^("+strings.Join(others, "|")+")$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	qt.Check(t, qt.IsNil(err), qt.Commentf("%s", out))
}

func mustExecutable(t *testing.T) string {
	name, err := os.Executable()
	qt.Assert(t, qt.IsNil(err))
	return name
}
