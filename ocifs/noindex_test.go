package ocifs

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/scratch"
	"github.com/seed-40b21970/oci/ocifs/internal/disk/disktest"
	"github.com/seed-40b21970/oci/ociregistry"
)

// A repository that another registry creates at any moment, just after a call has
// looked for its index.json, is not reported as one without index.json.
func TestNoIndex_IsNotOfARepositoryThatIsBeingMade(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("x", 50_000) // which is a file
	desc := ociregistry.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
	push := func(ctx context.Context, reg ociregistry.Interface) error {
		_, err := reg.PushBlob(ctx, "app", desc, strings.NewReader(content))
		return err
	}
	for name, call := range map[string]func(context.Context, ociregistry.Interface) error{
		"push": push,
		"list": func(ctx context.Context, reg ociregistry.Interface) error {
			_, err := ociregistry.All(reg.Repositories(ctx, ""))
			return err
		},
		"resolve": func(ctx context.Context, reg ociregistry.Interface) error {
			_, err := reg.ResolveBlob(ctx, "app", desc.Digest)
			if errors.Is(err, ociregistry.ErrNameUnknown) || errors.Is(err, ociregistry.ErrBlobUnknown) {
				return nil
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made := true
			for moment := int64(1); made; moment++ {
				made = false
				disktest.Still(t, func(t *testing.T) {
					dir := scratch.Kept(t)
					fsys := new(disktest.Hooks)
					reg, err := open(fsys, dir, "", nil)
					qt.Assert(t, qt.IsNil(err))
					another, err := New(dir, nil)
					qt.Assert(t, qt.IsNil(err))
					synctest.Wait() // for what opening does in the background
					var looks atomic.Int64
					fsys.Set(func(op, name string) error {
						if op == "Lstat" && filepath.Base(name) == "index.json" && looks.Add(1) == moment {
							made = true
							// Where the first holds the lock, no other can.
							ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
							defer cancel()
							if push(ctx, another) == nil {
								return fs.ErrNotExist
							}
						}
						return nil
					})
					qt.Check(t, qt.IsNil(call(t.Context(), reg)), qt.Commentf("at look %d", moment))
					fsys.Set(nil)
					qt.Check(t, qt.IsNil(reg.Close()))
					qt.Check(t, qt.IsNil(another.Close()))
				})
			}
		})
	}
}
