package ocifs_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
)

// The model test runs random programs on a registry and on mapRegistry, and compares
// the results of each operation.

// modelBackend is a kind of registry that is compared with the map.
type modelBackend struct {
	name string
	cfg  mapConfig
	open func(t testing.TB, cfg mapConfig) *modelDriver
}

var modelBackends = []modelBackend{
	{"Memory", mapConfig{}, openMemory},
	{"MemorySparse", mapConfig{sparse: true}, openMemory},
	{"MemoryImmutable", mapConfig{immutableTags: true}, openMemory},
	{"Directory", mapConfig{}, openDirectory},
	{"DirectorySparse", mapConfig{sparse: true}, openDirectory},
	{"DirectoryImmutable", mapConfig{immutableTags: true}, openDirectory},
	{"DirectoryShared", mapConfig{protectShared: true}, openDirectory},
	{"TwoRegistries", mapConfig{keeping: true}, openDirectoryTwice},
	{"TwoRegistriesSparse", mapConfig{sparse: true, keeping: true}, openDirectoryTwice},
}

// TestModel runs a few programs. OCIFS_MODEL_PROGRAMS is the number of programs for
// each backend, and OCIFS_MODEL_SEED the seed of the first.
func TestModel(t *testing.T) {
	t.Parallel()
	programs, first := envInt(t, "OCIFS_MODEL_PROGRAMS", 4), envInt(t, "OCIFS_MODEL_SEED", 1)
	for _, b := range modelBackends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for i := range programs {
				if report := modelFailure(t, b, modelProgram(uint64(first+i), 120)); report != "" {
					t.Fatalf("the program of seed %d, made shorter:\n%s", first+i, report)
				}
			}
		})
	}
}

func envInt(t testing.TB, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", name))
	return n
}

func openMemory(_ testing.TB, cfg mapConfig) *modelDriver {
	return newModelDriver(ocimem.NewWithConfig(&ocimem.Config{Sparse: cfg.sparse, ImmutableTags: cfg.immutableTags}))
}

func newModelDriver(regs ...ociregistry.Interface) *modelDriver {
	return &modelDriver{regs: regs, data: make(map[string][]byte), close: func() error { return nil }}
}

func openDirectory(t testing.TB, cfg mapConfig) *modelDriver { return openDirectories(t, cfg, 1) }

func openDirectoryTwice(t testing.TB, cfg mapConfig) *modelDriver { return openDirectories(t, cfg, 2) }

// openDirectories opens n registries of one directory.
func openDirectories(t testing.TB, cfg mapConfig, n int) *modelDriver {
	dir := scratch.Dir(t)
	opts := &ocifs.Options{NoSync: true, Sparse: cfg.sparse, ImmutableTags: cfg.immutableTags, ProtectShared: cfg.protectShared}
	d := newModelDriver(make([]ociregistry.Interface, n)...)
	var opened []*ocifs.Registry
	current := make([]*ocifs.Registry, n)
	d.reopen = func(i int, closes bool) error {
		if closes {
			if err := current[i].Close(); err != nil {
				return err
			}
		}
		r, err := ocifs.New(dir, opts)
		if err != nil {
			return err
		}
		opened = append(opened, r)
		current[i], d.regs[i] = r, r
		if cfg.keeping {
			d.regs[i] = keeping{r}
		}
		return nil
	}
	for i := range n {
		qt.Assert(t, qt.IsNil(d.reopen(i, false)))
	}
	d.close = func() (err error) {
		for _, r := range opened {
			err = cmp.Or(err, r.Close())
		}
		return err
	}
	return d
}

// keeping is a registry whose writers have each Write kept, so that other registries
// see it.
type keeping struct{ *ocifs.Registry }

func (r keeping) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	w, err := r.Registry.PushBlobChunked(ctx, repo, chunkSize)
	if err != nil {
		return nil, err
	}
	return &keptWriter{BlobWriter: w, r: r, repo: repo}, nil
}

func (r keeping) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	w, err := r.Registry.PushBlobChunkedResume(ctx, repo, id, offset, chunkSize)
	if err != nil {
		return nil, err
	}
	return &keptWriter{BlobWriter: w, r: r, repo: repo}, nil
}

type keptWriter struct {
	ociregistry.BlobWriter
	r      keeping
	repo   string
	unkept int64 // how many bytes were written for nothing
	failed error
}

func (w *keptWriter) Size() int64 { return w.BlobWriter.Size() - w.unkept }

func (w *keptWriter) Write(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.BlobWriter.Write(p)
	if err != nil {
		return n, err
	}
	err = w.Close()
	var next ociregistry.BlobWriter
	if err == nil {
		next, err = w.r.Registry.PushBlobChunkedResume(modelCtx, w.repo, w.ID(), w.Size(), 0)
	}
	if err != nil {
		w.failed, w.unkept = err, int64(n)
		return 0, err
	}
	w.BlobWriter = next
	return n, nil
}

func (w *keptWriter) Commit(d ociregistry.Digest) (ociregistry.Descriptor, error) {
	if w.failed != nil {
		return ociregistry.Descriptor{}, w.failed
	}
	return w.BlobWriter.Commit(d)
}

// modelMismatch is where a program's results differ from the model's.
type modelMismatch struct {
	at        int // the index of the operation
	want, got modelResult
}

// mapDriver returns the driver of as many processes as real has, which are opened again
// when those are.
func mapDriver(cfg mapConfig, real *modelDriver) *modelDriver {
	r := newMapRegistry(cfg)
	model := newModelDriver()
	for range real.regs {
		model.regs = append(model.regs, r.another())
	}
	if real.reopen != nil {
		model.reopen = func(i int, _ bool) error {
			model.regs[i] = r.another()
			return nil
		}
	}
	return model
}

// runModel runs a program. It returns nil if the model allows every result.
func runModel(t testing.TB, b modelBackend, ops []modelOp) *modelMismatch {
	real := b.open(t, b.cfg)
	model := mapDriver(b.cfg, real)
	defer func() { qt.Check(t, qt.IsNil(cmp.Or(real.dropWriters(), real.close()))) }()
	for i, op := range ops {
		want := op.run(model)
		if want.err != nil && slices.Contains(errorNames(want.err), "unspecified") {
			continue
		}
		if got := op.run(real); !want.allows(got) {
			return &modelMismatch{i, want, got}
		}
	}
	return nil
}

// modelFailure runs a program. If it fails, modelFailure makes it as short as it
// can, and returns it as text.
func modelFailure(t testing.TB, b modelBackend, ops []modelOp) string {
	m := runModel(t, b, ops)
	if m == nil {
		return ""
	}
	ops = ops[:m.at+1]
	for n := len(ops) / 2; n > 0; {
		shrunk := false
		for i := len(ops) - 1 - n; i >= 0; i -= n { // the last operation is the one that fails
			shorter := slices.Delete(slices.Clone(ops), i, i+n)
			if m2 := runModel(t, b, shorter); m2 != nil {
				ops, m, shrunk = shorter[:m2.at+1], m2, true
				i = min(i, len(ops)-1)
			}
		}
		if n > 1 || !shrunk {
			n /= 2
		}
	}
	return showProgram(ops, m)
}

func showProgram(ops []modelOp, m *modelMismatch) string {
	var b strings.Builder
	for i, op := range ops {
		fmt.Fprintf(&b, "\t%s\n", op.text)
		if i < m.at {
			continue
		}
		want, got := m.want.String(), m.got.String()
		if diffs := differences(strings.Split(want, "\n"), strings.Split(got, "\n")); strings.Contains(want, "\n") && diffs != nil {
			fmt.Fprintf(&b, "\t    %s\n", strings.Join(diffs, "\n\t    "))
		} else {
			fmt.Fprintf(&b, "\t    want %s\n\t    got  %s\n", want, got)
		}
	}
	return b.String()
}
