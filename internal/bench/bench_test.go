package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	objectservers "github.com/seed-40b21970/oci/internal/servers"
)

// TestMain lets the test be the servers' program too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-serve" {
		main()
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // else each server takes a second to end
	os.Exit(m.Run())
}

// patience is the flag by which no server is too slow to be tested, whatever else the machine does.
const patience = "-prepare=1h"

// TestShort does all the work of all servers, in small: each group's in one run.
func TestShort(t *testing.T) {
	t.Parallel()
	for _, ours := range servers {
		if ours.group == "" {
			continue
		}
		t.Run(ours.name, func(t *testing.T) {
			t.Parallel()
			if ours.storage == inBucket {
				needStore(t)
			}
			testGroup(t, append(comparedWith(ours), ours))
		})
	}
}

// needStore skips the test where there can be no store.
func needStore(t *testing.T) {
	t.Helper()
	err := haveStore()
	switch {
	case err != nil && os.Getenv(objectservers.Required) != "":
		t.Fatalf("%s is set: %v", objectservers.Required, err)
	case err != nil:
		t.Skip(err)
	}
}

func testGroup(t *testing.T, group []server) {
	dir := t.TempDir()
	samplesFile, benchFile := filepath.Join(dir, "samples"), filepath.Join(dir, "bench")
	var names []string
	for _, s := range group {
		names = append(names, s.name)
	}
	var out strings.Builder
	err := run(t.Context(), []string{
		"-short", patience, "-servers", "^(" + strings.Join(names, "|") + ")$",
		"-dir", t.TempDir(), "-json", samplesFile, "-benchfmt", benchFile,
	}, &out)
	qt.Assert(t, qt.IsNil(err))
	report := out.String()
	for line := range strings.Lines(report) {
		// Some have no list of repositories, or one without order.
		if !strings.Contains(line, "RepoPage") {
			qt.Check(t, qt.Not(qt.StringContains(line, "| n/a |")), qt.Commentf("%s", report))
		}
	}
	qt.Check(t, qt.Not(qt.StringContains(report, "| too slow")), qt.Commentf("%s", report))
	for _, s := range servers {
		for _, m := range s.metrics() {
			heading := "\n## " + s.group + ": " + m.title + "\n\n| row | " + s.title + " | "
			want := s.group != "" && slices.Contains(names, s.name)
			qt.Check(t, qt.Equals(strings.Contains(report, heading), want), qt.Commentf("%q", heading))
		}
	}

	data, err := os.ReadFile(samplesFile)
	qt.Assert(t, qt.IsNil(err))
	got := make(map[cell]sample)
	for dec := json.NewDecoder(strings.NewReader(string(data))); dec.More(); {
		var s sample
		qt.Assert(t, qt.IsNil(dec.Decode(&s)))
		got[cell{s.Row, s.Server}] = s
	}
	benchmarks, err := os.ReadFile(benchFile)
	qt.Assert(t, qt.IsNil(err))
	for _, r := range rows(shortScale) {
		if !group[0].suits(r.name) {
			continue
		}
		pushes := strings.Contains(r.name, "Push") || strings.Contains(r.name, "Patch") || strings.Contains(r.name, "Put") ||
			strings.Contains(r.name, "Mixed")
		// A process that is new counts what it opens only where the row says so.
		if name, ok := strings.CutPrefix(r.name, "BucketOpenGet"); ok {
			opened, first := got[cell{r.name, "ocibucket"}], got[cell{"BucketGetFirst" + name, "ocibucket"}]
			qt.Check(t, qt.IsTrue(opened.requests() > 10*first.requests() && first.requests() > 0))
		}
		for _, s := range group {
			sample, ok := got[cell{r.name, s.name}]
			what := qt.Commentf("%s %s: %+v", r.name, s.name, sample)
			if strings.Contains(r.name, "RepoPage") && s.against != "" || s.missing() {
				continue
			}
			qt.Check(t, qt.Equals(ok, s.suits(r.name) && (s.open != nil || pushes)), what)
			if !ok {
				continue
			}
			ops := r.opsOn(s)
			qt.Check(t, qt.IsTrue(sample.Ops > 0 && sample.Ops <= ops), what)
			qt.Check(t, qt.IsTrue(!r.grows || sample.Ops == ops), what)
			qt.Check(t, qt.IsTrue(sample.Wall > 0), what)
			if s.name == "ocibucket" {
				qt.Check(t, qt.IsTrue(sample.requests() > 0 && sample.StoreBytes > 0), what)
			}
			if s.open != nil {
				qt.Check(t, qt.IsTrue(sample.CPU > 0 && sample.ClientCPU > 0 && sample.Allocs > 0 && sample.Peak > 1<<20), what)
			}
			qt.Check(t, qt.StringContains(string(benchmarks), "Benchmark"+r.name+"/server="+s.name+"-"))
		}
		tables := len(group[0].metrics())
		if group[0].storage == inBucket {
			tables++ // of the kinds of requests
		}
		qt.Check(t, qt.Equals(strings.Count(report, "\n| "+r.name+" | "), tables))
	}
}

// TestProfile has one server's profiles written, of its own process and of one
// that it goes on with.
func TestProfile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"-short", patience, "-counts", "2", "-servers", "^ocimem$", "-rows", "^(ManifestPut/clients=16|TagPut/tags=40/clients=1)$", "-profile", dir}
	qt.Assert(t, qt.IsNil(run(t.Context(), args, io.Discard)))
	for _, name := range []string{"ManifestPut_clients-16.ocimem.1", "TagPut_tags-40_clients-1.ocimem.1", "TagPut_tags-40_clients-1.ocimem.2"} {
		for _, kind := range []string{".cpu.pprof", ".mem.pprof"} {
			profile, err := os.Stat(filepath.Join(dir, name+kind))
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(profile.Size() > 0))
		}
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-rows", "("}, {"-rows", "no such row"}, {"-counts", "-1"}, {"-serve", "nobody"}, {"argument"}} {
		qt.Check(t, qt.IsNotNil(run(t.Context(), args, io.Discard)), qt.Commentf("%q", args))
	}
	cfg, err := parseFlags(nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(cfg.counts, 6))
	qt.Check(t, qt.Equals(cfg.scale.prepare, 2*time.Minute))
	cfg, err = parseFlags([]string{"-prepare", "20m"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(cfg.scale.prepare, 20*time.Minute))
}

// TestFailure checks who may fail: another's failure is told, ours is the end.
func TestFailure(t *testing.T) {
	t.Parallel()
	fail := errors.New("cannot do it")
	r := row{name: "Row", clients: 1, ops: 1, work: func(int) work {
		return work{prepare: func(_ *client, s server) error {
			if s.name == "ggcr" {
				return fail
			}
			return nil
		}, do: func(*client, int) error { return nil }}
	}}
	cfg := &config{counts: 1, servers: regexp.MustCompile("^(ocimem|ggcr)$")}
	res, err := measureAll(t.Context(), cfg, []row{r})
	qt.Assert(t, qt.IsNil(err))
	var out strings.Builder
	qt.Assert(t, qt.IsNil(res.writeMarkdown(&out)))
	qt.Check(t, qt.StringContains(out.String(), "\n| Row | "))
	qt.Check(t, qt.StringContains(out.String(), "% | n/a |\n"))
	qt.Check(t, qt.StringContains(out.String(), "n/a: Row, ggcr registry: prepare: cannot do it"))

	r.work = func(int) work {
		return work{prepare: func(*client, server) error { return nil }, do: func(*client, int) error { return fail }}
	}
	_, err = measureAll(t.Context(), cfg, []row{r})
	qt.Check(t, qt.ErrorIs(err, fail))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = measureAll(ctx, cfg, []row{r})
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
}

func TestRatios(t *testing.T) {
	t.Parallel()
	res := newResults(3, "")
	ours, theirs := servers[0], servers[1]
	for round, wall := range []time.Duration{100, 200, 400} {
		res.add("Row", ours, &sample{Row: "Row", Server: ours.name, Round: round + 1, Ops: 10, Wall: wall}, nil)
	}
	// Twice, four times, and as much, for half as many operations.
	for round, wall := range []time.Duration{100, 400, 200} {
		res.add("Row", theirs, &sample{Row: "Row", Server: theirs.name, Round: round + 1, Ops: 5, Wall: wall}, nil)
	}
	ratios, ok := res.ratios(cell{"Row", theirs.name}, ours.name, metrics[0])
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(ratios, summary{median: 2, min: 1, max: 4}))
	values, ok := res.values(cell{"Row", ours.name}, metrics[0])
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(values, summary{median: 20, min: 10, max: 40}))
	_, ok = res.values(cell{"Row", "bare"}, metrics[0])
	qt.Check(t, qt.IsFalse(ok))
	qt.Check(t, qt.Equals(summarize([]float64{4, 1, 3, 2}), summary{median: 2.5, min: 1, max: 4}))
}

// What a server has in memory is shown, but nobody is behind it with files.
func TestForgetful(t *testing.T) {
	t.Parallel()
	ours, err := serverNamed("ocifs-nosync")
	qt.Assert(t, qt.IsNil(err))
	theirs, err := serverNamed("ggcr-disk")
	qt.Assert(t, qt.IsNil(err))
	res := newResults(2, "")
	for _, row := range []string{"BlobPush", "ManifestPut"} {
		for round := range 2 {
			res.add(row, ours, &sample{Row: row, Server: ours.name, Round: round, Ops: 1, Wall: 200}, nil)
			res.add(row, theirs, &sample{Row: row, Server: theirs.name, Round: round, Ops: 1, Wall: 100}, nil)
		}
	}
	var b strings.Builder
	qt.Assert(t, qt.IsNil(res.writeMarkdown(&b)))
	_, behind, _ := strings.Cut(b.String(), "is behind in:")
	qt.Check(t, qt.StringContains(b.String(), "| ManifestPut | 200 ns ±0% | 0.50* |"))
	qt.Check(t, qt.StringContains(behind, "- time, BlobPush, "))
	qt.Check(t, qt.Not(qt.StringContains(behind, "ManifestPut")))
}

func TestBlobsDiffer(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, b := range newBlobs(randomBytes(100), 10) {
		data, err := io.ReadAll(b.reader())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(int64(len(data)), b.size))
		h := sha256.New()
		h.Write(data)
		qt.Check(t, qt.Equals(b.digest, digestOf(h)))
		qt.Check(t, qt.IsFalse(seen[b.digest]))
		seen[b.digest] = true
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for ns, want := range map[float64]string{12: "12.0 ns", 1500: "1.50 µs", 999_400: "999 µs", 12.34e6: "12.3 ms", 2.5e9: "2.50 s"} {
		qt.Check(t, qt.Equals(formatTime(ns), want))
	}
	for bytes, want := range map[int64]string{100: "100B", 4 << 10: "4KiB", 128 << 20: "128MiB"} {
		qt.Check(t, qt.Equals(size(bytes), want))
	}
	qt.Check(t, qt.Equals(formatSize(1.5*(1<<20)), "1.5 MiB"))
}
