package serve

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func runProgram(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = Program{}.Run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

// TestVerifyTellsAndRepairs damages a directory, and a layout.
func TestVerifyTellsAndRepairs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	tree, layout := filepath.Join(root, "tree"), filepath.Join(root, "app")
	push := func(r *ocifs.Registry, err error) {
		t.Helper()
		qt.Assert(t, qt.IsNil(err))
		a := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 40_000}})
		ocitest.NewRegistry(t, r).MustPush("app", a, "v1")
		qt.Assert(t, qt.IsNil(r.Close()))
	}
	a := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 40_000}})
	layer := "blobs/sha256/" + a.Blobs[2].Descriptor.Digest.Encoded()
	for _, test := range []struct {
		dir, repo string
		open      func() (*ocifs.Registry, error)
	}{
		{tree, filepath.Join(tree, "app"), func() (*ocifs.Registry, error) { return ocifs.New(tree, nil) }},
		{layout, layout, func() (*ocifs.Registry, error) { return ocifs.NewLayout(layout, "app", nil) }},
	} {
		push(test.open())
		status, out, errs := runProgram(t, "verify", test.dir)
		qt.Check(t, qt.Equals(status, 0), qt.Commentf("%s%s", out, errs))
		qt.Check(t, qt.Equals(out, "Nothing is wrong.\n"))
		qt.Check(t, qt.Equals(errs, ""))

		name := filepath.Join(test.repo, layer)
		qt.Assert(t, qt.IsNil(os.Remove(name)))
		qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte("damaged"), 0o666)))
		for range 2 { // it changes nothing
			status, out, _ = runProgram(t, "verify", test.dir)
			qt.Check(t, qt.Equals(status, 1))
			qt.Check(t, qt.StringContains(out, "app@"+a.Blobs[2].Descriptor.Digest.String()+": "+ocifs.ErrDamaged.Error()+"\n"))
			qt.Check(t, qt.StringContains(out, "2 found.\n"))
		}
		status, out, _ = runProgram(t, "verify", "-repair", test.dir)
		qt.Check(t, qt.Equals(status, 1)) // it is missing now
		qt.Check(t, qt.StringContains(out, "; repaired; moved to "+filepath.Join(test.dir, ".ocifs", "damaged")))
		qt.Check(t, qt.StringContains(out, "1 repaired, 1 left.\n"))
		moved, _ := filepath.Glob(filepath.Join(test.dir, ".ocifs", "damaged", strings.TrimPrefix(name, test.dir)+".*"))
		qt.Assert(t, qt.HasLen(moved, 1))
		text, err := os.ReadFile(moved[0])
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(text), "damaged"))
		status, out, _ = runProgram(t, "verify", "-sparse", test.dir)
		qt.Check(t, qt.Equals(status, 0), qt.Commentf(out))

		push(test.open())
		status, out, _ = runProgram(t, "verify", test.dir)
		qt.Check(t, qt.Equals(status, 0), qt.Commentf(out))

		// An index.json can be made, and then nothing is left to do.
		qt.Assert(t, qt.IsNil(os.Remove(filepath.Join(test.repo, "index.json"))))
		status, out, _ = runProgram(t, "verify", test.dir)
		qt.Check(t, qt.Equals(status, 1))
		qt.Check(t, qt.StringContains(out, "index.json"))
		status, out, _ = runProgram(t, "verify", "-repair", test.dir)
		qt.Check(t, qt.Equals(status, 0), qt.Commentf(out))
		qt.Check(t, qt.StringContains(out, "1 repaired, 0 left.\n"))
	}
}

func TestVerifyRefusesNonsense(t *testing.T) {
	t.Parallel()
	absent := filepath.Join(t.TempDir(), "absent")
	for _, args := range [][]string{{}, {"a", "b"}, {"-unknown", "a"}, {"-repair"}} {
		status, _, errs := runProgram(t, append([]string{"verify"}, args...)...)
		qt.Check(t, qt.Equals(status, 2), qt.Commentf("%v", args))
		qt.Check(t, qt.StringContains(errs, "Usage: ociserve verify"))
	}
	for _, flag := range []string{"-repair=false", "-repair"} {
		status, _, errs := runProgram(t, "verify", flag, absent)
		qt.Check(t, qt.Equals(status, 1))
		qt.Check(t, qt.StringContains(errs, absent))
		_, err := os.Stat(absent)
		qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
	}
	status, _, errs := runProgram(t, "verify", "-h")
	qt.Check(t, qt.Equals(status, 0))
	qt.Check(t, qt.StringContains(errs, "-repair"))
}
