package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// garbageIn makes a directory with an image, an untagged image and a blob that nothing names.
func garbageIn(t *testing.T, dir string) (image, untagged *ocitest.Artifact, blob ocitest.Blob) {
	r, err := ocifs.New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	image = ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100}})
	untagged = ocitest.NewImage(ocitest.Spec{Seed: 2, Layers: []int64{200}})
	blob = ocitest.NewBlob(3, 3000)
	reg := ocitest.NewRegistry(t, r)
	reg.MustPush("team/app", image, "v1")
	reg.MustPush("team/app", untagged)
	_, err = r.PushBlob(t.Context(), "tools", blob.Descriptor, blob.NewReader())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(r.Close()))
	return image, untagged, blob
}

func TestGC_TellsWhatItRemoves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image, untagged, blob := garbageIn(t, dir)
	status, out, errs := runProgram(t, "gc", dir)
	qt.Check(t, qt.Equals(status, 0), qt.Commentf(errs))
	qt.Check(t, qt.Equals(out, "Removed nothing (0 B) from 2 repositories.\n"), qt.Commentf("all is young"))

	status, out, errs = runProgram(t, "gc", "-delay", "0", "-untagged", "-dry-run", dir)
	qt.Check(t, qt.Equals(status, 0), qt.Commentf(errs))
	qt.Check(t, qt.Equals(errs, ""))
	total := untagged.Descriptor.Size + blob.Descriptor.Size
	for _, b := range untagged.Blobs {
		total += b.Descriptor.Size
	}
	last := fmt.Sprintf("1 manifest and 3 blobs (%s) from 2 repositories.\n", inBytes(total))
	qt.Check(t, qt.StringContains(out, "Would remove "+last))
	qt.Check(t, qt.StringContains(out, "team/app\n  manifest  "+string(untagged.Descriptor.Digest)))
	qt.Check(t, qt.StringContains(out, "tools\n  blob      "+string(blob.Descriptor.Digest)+"     2.9 KiB  no manifest names it, since 20"))

	status, out, errs = runProgram(t, "gc", "-delay", "0", "-untagged", dir)
	qt.Check(t, qt.Equals(status, 0), qt.Commentf(errs))
	qt.Check(t, qt.StringContains(out, "Removed "+last))
	r, err := ocifs.New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	qt.Check(t, qt.IsNil(image.Verify(t.Context(), r, "team/app")))
	_, err = os.Stat(filepath.Join(dir, "tools"))
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}

func TestGC_PrintsJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, _, blob := garbageIn(t, dir)
	status, out, errs := runProgram(t, "gc", "-delay", "0", "-json", dir)
	qt.Check(t, qt.Equals(status, 0), qt.Commentf(errs))
	var f ocigc.Finding
	var report ocigc.Report
	in := json.NewDecoder(strings.NewReader(out))
	qt.Assert(t, qt.IsNil(in.Decode(&f)))
	qt.Assert(t, qt.IsNil(in.Decode(&report)))
	qt.Check(t, qt.IsFalse(in.More()))
	qt.Check(t, qt.Equals(f.Kind, ocigc.KindBlob))
	qt.Check(t, qt.Equals(f.Digest, blob.Descriptor.Digest))
	qt.Check(t, qt.Equals(f.Reason, ocigc.Unnamed))
	qt.Check(t, qt.Equals(report.Summary, ocigc.Summary{Repositories: 2, Blobs: 1, Bytes: blob.Descriptor.Size}))
}

func TestGC_FollowsPolicies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image, _, _ := garbageIn(t, dir)
	policy := filepath.Join(t.TempDir(), "policy.json")
	qt.Assert(t, qt.IsNil(os.WriteFile(policy, []byte(`{"policies": [{"repositories": ["team/**"], "keep": [{"match": "^release"}]}]}`), 0o666)))
	status, out, errs := runProgram(t, "gc", "-delay", "0", "-policy", policy, dir)
	qt.Check(t, qt.Equals(status, 0), qt.Commentf(errs))
	qt.Check(t, qt.StringContains(out, "  tag       v1 "))
	qt.Check(t, qt.StringContains(out, "Removed 1 tag and 1 blob ("))
	r, err := ocifs.New(dir, nil)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	_, err = r.ResolveManifest(t.Context(), "team/app", image.Descriptor.Digest)
	qt.Check(t, qt.IsNil(err), qt.Commentf("manifests without tags stay"))
}

func TestGC_TellsWhatItLeaves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image, untagged, _ := garbageIn(t, dir)
	name := filepath.Join(dir, "team", "app", "blobs", "sha256", image.Descriptor.Digest.Encoded())
	qt.Assert(t, qt.IsNil(os.Remove(name)))
	qt.Assert(t, qt.IsNil(os.WriteFile(name, []byte("damaged"), 0o666)))
	qt.Assert(t, qt.IsNil(os.RemoveAll(filepath.Join(dir, "team", "app", ".ocifs"))))
	status, out, errs := runProgram(t, "gc", "-delay", "0", "-untagged", dir)
	qt.Check(t, qt.Equals(status, 1), qt.Commentf(errs))
	qt.Check(t, qt.StringContains(out, "team/app was left as it is: "))
	qt.Check(t, qt.StringContains(out, "Removed 1 blob "), qt.Commentf("others are collected"))
	_, err := os.Stat(filepath.Join(dir, "team", "app", "blobs", "sha256", untagged.Descriptor.Digest.Encoded()))
	qt.Check(t, qt.IsNil(err))
}

// TestGC_RefusesNonsense checks that what is wrong is told, and leaves no trace.
func TestGC_RefusesNonsense(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	absent, policy := filepath.Join(root, "absent"), filepath.Join(root, "policy.json")
	qt.Assert(t, qt.IsNil(os.WriteFile(policy, []byte(`{"policies": [{"untaged": true}]}`), 0o666)))
	for _, test := range []struct{ args, want string }{
		{"gc", "one directory is needed"},
		{"gc a b", "one directory is needed"},
		{"gc -delay -1h " + root, "delay of a collection cannot be negative"},
		{"gc -delay 1 " + root, `invalid value "1" for flag -delay`},
		{"gc -policy " + absent + " " + root, absent},
		{"gc -policy " + policy + " " + root, `policy.json: policies[0]: json: unknown field "untaged"`},
		{"-gc-interval -1h", "-gc-interval cannot be negative"},
		{"-gc-delay 1h", "need -gc-interval"},
		{"-gc-untagged", "need -gc-interval"},
		{"-gc-interval 1h -proxy localhost:1", "-gc-interval is not for -proxy"},
		{"-gc-interval 1h -cache localhost:1", "-gc-interval is not for -proxy"},
		{"-gc-interval 1h -dir " + absent + " -read-only", "-gc-interval is not for -proxy"},
		{"-gc-interval 1h -gc-policy " + policy, `policy.json: policies[0]`},
	} {
		status, _, errs := runProgram(t, strings.Fields(test.args)...)
		qt.Check(t, qt.Equals(status, 2), qt.Commentf(test.args))
		qt.Check(t, qt.StringContains(errs, test.want), qt.Commentf(test.args))
	}
	for _, args := range [][]string{{absent}, {"-dry-run", absent}, {policy}} {
		status, _, errs := runProgram(t, append([]string{"gc"}, args...)...)
		qt.Check(t, qt.Equals(status, 1))
		qt.Check(t, qt.StringContains(errs, args[len(args)-1]))
	}
	_, err := os.Stat(absent)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
	status, _, errs := runProgram(t, "gc", "-h")
	qt.Check(t, qt.Equals(status, 0))
	qt.Check(t, qt.StringContains(errs, "-dry-run"))
}

// TestGC_EndsWhenNobodyReads checks that nothing is removed in silence.
func TestGC_EndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbageIn(t, dir)
	in, out, err := os.Pipe()
	qt.Assert(t, qt.IsNil(err))
	in.Close()
	defer out.Close()
	var errs bytes.Buffer
	status := Program{}.Run(t.Context(), []string{"gc", "-delay", "0", dir}, out, &errs)
	qt.Check(t, qt.Equals(status, 1))
	qt.Check(t, qt.StringContains(errs.String(), "broken pipe"))
}

func TestCollectsWhileItServes(t *testing.T) {
	t.Parallel()
	for _, storage := range [][]string{{"-mem"}, {"-dir", t.TempDir()}} {
		url, log, stop := start(t, append(storage, "-gc-interval", "10ms", "-gc-delay", "0", "-gc-untagged")...)
		awaitLog(t, log, `msg="collected garbage"`)
		pushUntilRemoved(t, url)
		awaitLog(t, log, `blobs=1 uploads=0 bytes=3`)
		qt.Check(t, qt.Equals(stop(), 0))
	}
}

// pushUntilRemoved pushes a blob, and waits until it is gone.
func pushUntilRemoved(t *testing.T, url string) {
	const digest = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	resp, err := http.Post(url+"/foo/blobs/uploads/?digest="+digest, "", strings.NewReader("foo"))
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusCreated))
	for {
		resp, err = http.Get(url + "/foo/blobs/" + digest)
		qt.Assert(t, qt.IsNil(err))
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound {
			return
		}
	}
}

func TestProgressLine_IsShownAndCleared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		line := &progressLine{w: &out}
		line.clear()
		line.show(ocigc.Progress{Summary: ocigc.Summary{Repositories: 1, Blobs: 2}, Repository: strings.Repeat("a", 100)})
		line.show(ocigc.Progress{Repository: "too soon"})
		line.clear()
		time.Sleep(time.Second)
		line.show(ocigc.Progress{Summary: ocigc.Summary{Repositories: 3}, Repository: "b"})
		want := []string{"1 repository, 2 blobs: " + strings.Repeat("a", 40), "\r\x1b[K", "3 repositories, nothing: b"}
		qt.Check(t, qt.Equals(out.String(), strings.Join(want, "")))
		qt.Check(t, qt.IsNil(newProgressLine(&out)))
		(*progressLine)(nil).show(ocigc.Progress{})
	})
}

func TestCounts_AreEnglish(t *testing.T) {
	t.Parallel()
	got := []string{
		counts(ocigc.Summary{}),
		counts(ocigc.Summary{Tags: 1}),
		counts(ocigc.Summary{Manifests: 2, Uploads: 1}),
		counts(ocigc.Summary{Tags: 1, Manifests: 2, Blobs: 3, Uploads: 4}),
		inBytes(0), inBytes(1023), inBytes(1024), inBytes(1536 << 20), inBytes(1 << 62),
	}
	want := []string{
		"nothing", "1 tag", "2 manifests and 1 upload session", "1 tag, 2 manifests, 3 blobs and 4 upload sessions",
		"0 B", "1023 B", "1.0 KiB", "1.5 GiB", "4096.0 PiB",
	}
	qt.Check(t, qt.IsTrue(slices.Equal(got, want)), qt.Commentf("got %q", got))
}
