package histories

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

// TestGC_DoesNoHarmToOtherProcesses lasts for OCI_GC_STRESS, a duration such as 5m; without
// that, for some seconds. Clients use two servers of one directory, while processes collect
// its garbage, of which some are killed.
func TestGC_DoesNoHarmToOtherProcesses(t *testing.T) {
	d := duration(t, "OCI_GC_STRESS", 8*time.Second)
	for _, delay := range []time.Duration{-1, 2 * time.Second} {
		t.Run(fmt.Sprintf("delay %v", max(delay, 0)), func(t *testing.T) {
			dir := t.TempDir()
			p, err := startProcesses(backends[1], dir, 2)
			qt.Assert(t, qt.IsNil(err))
			defer func() {
				if t.Failed() {
					t.Log(p.logs())
				}
				qt.Check(t, qt.IsNil(p.stopAll()))
			}()
			f := newFleet(t, p.cluster, program, dir)
			f.killUntil = time.Now().Add(d / 2)
			ocitest.StressGC(t, f, ocitest.StressOptions{Duration: d / 2, Delay: delay})
			checkFiles(t, f, dir)
			t.Logf("%d collections, of which %d were killed", f.collections.Load(), f.killed.Load())
		})
	}
}

// The same over a bucket, to which each of two servers of object storage leads.
func TestGC_DoesNoHarmToOtherProcessesOverABucket(t *testing.T) {
	d := duration(t, "OCI_GC_STRESS_BUCKET", 8*time.Second)
	for _, delay := range []time.Duration{-1, 2 * time.Second} {
		t.Run(fmt.Sprintf("delay %v", max(delay, 0)), func(t *testing.T) {
			b := inBucket(t)
			p, err := startProcesses(b.Backend, "", 2)
			qt.Assert(t, qt.IsNil(err))
			defer func() {
				if t.Failed() {
					t.Log(p.logs())
				}
				qt.Check(t, qt.IsNil(p.stopAll()))
			}()
			f := newFleet(t, p.cluster, b.program, "-bucket", b.urls[1])
			f.killUntil = time.Now().Add(d / 2)
			ocitest.StressGC(t, f, ocitest.StressOptions{Duration: d / 2, Delay: delay, Rounds: 2})
			t.Logf("%d collections, of which %d were killed", f.collections.Load(), f.killed.Load())
		})
	}
}

// fleet is the servers of one store as one registry: each call goes to one of them. A
// collection is a process of its own.
type fleet struct {
	*ociregistry.Funcs
	program             string
	store               []string // the arguments of the program that say which
	policy              string
	killUntil           time.Time // when collections are no longer killed
	collections, killed atomic.Int64
}

// stressPolicy is the policy of [ocitest.StressGC].
const stressPolicy = `{"policies": [{"repositories": ["c"], "untagged": true, "dangling": true, "keep": [{"lastPushed": 100}]}]}`

func newFleet(t *testing.T, c *cluster, program string, store ...string) *fleet {
	f := &fleet{program: program, store: store, policy: filepath.Join(t.TempDir(), "policy.json")}
	qt.Assert(t, qt.IsNil(os.WriteFile(f.policy, []byte(stressPolicy), 0o666)))
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32
	t.Cleanup(transport.CloseIdleConnections)
	var clients []ociregistry.Interface
	for i := range c.servers {
		client, err := ociclient.New(c.at(i).host, &ociclient.Options{
			Insecure: true, Transport: transport,
			Timeouts: ociclient.Timeouts{Header: -1, Commit: -1, Idle: -1}, // the machine may stand still
		})
		qt.Assert(t, qt.IsNil(err))
		clients = append(clients, client)
	}
	pick := func() ociregistry.Interface { return clients[rand.IntN(len(clients))] }
	f.Funcs = &ociregistry.Funcs{
		GetBlob_: func(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
			return pick().GetBlob(ctx, repo, digest)
		},
		GetManifest_: func(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.BlobReader, error) {
			return pick().GetManifest(ctx, repo, digest)
		},
		GetTag_: func(ctx context.Context, repo string, tag string) (ociregistry.BlobReader, error) {
			return pick().GetTag(ctx, repo, tag)
		},
		ResolveBlob_: func(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
			return pick().ResolveBlob(ctx, repo, digest)
		},
		ResolveManifest_: func(ctx context.Context, repo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
			return pick().ResolveManifest(ctx, repo, digest)
		},
		ResolveTag_: func(ctx context.Context, repo string, tag string) (ociregistry.Descriptor, error) {
			return pick().ResolveTag(ctx, repo, tag)
		},
		PushBlob_: func(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
			return pick().PushBlob(ctx, repo, desc, r)
		},
		MountBlob_: func(ctx context.Context, from, to string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
			return pick().MountBlob(ctx, from, to, digest)
		},
		PushManifest_: func(ctx context.Context, repo, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
			return pick().PushManifest(ctx, repo, ref, contents, mediaType, tags...)
		},
		DeleteManifest_: func(ctx context.Context, repo string, digest ociregistry.Digest) error {
			return pick().DeleteManifest(ctx, repo, digest)
		},
		DeleteTag_: func(ctx context.Context, repo string, tag string) error {
			return pick().DeleteTag(ctx, repo, tag)
		},
	}
	return f
}

// GC implements [ocigc.Collector].
func (f *fleet) GC(ctx context.Context, opts *ocigc.Options) (*ocigc.Report, error) {
	args := []string{"gc", "-json", "-untagged", "-dangling", "-delay", max(opts.Delay, 0).String(), "-policy", f.policy}
	cmd := exec.CommandContext(ctx, f.program, append(args, f.store...)...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	kill := rand.IntN(3) == 0 && time.Now().Before(f.killUntil)
	if kill {
		time.AfterFunc(time.Duration(rand.IntN(int(50*time.Millisecond))), func() { cmd.Process.Kill() })
	}
	err := cmd.Wait()
	f.collections.Add(1)
	report := new(ocigc.Report)
	if kill && !cmd.ProcessState.Exited() {
		f.killed.Add(1)
		return report, nil
	}
	for in := json.NewDecoder(strings.NewReader(stdout.String())); err == nil && in.More(); {
		*report = ocigc.Report{} // the last object is the report
		err = in.Decode(report)
	}
	if err != nil {
		err = fmt.Errorf("%w: %s%s", err, stderr.String(), stdout.String())
	}
	return report, err
}

// checkFiles checks that the directory has no file of content that the registry does not
// have.
func checkFiles(t *testing.T, f *fleet, dir string) {
	ctx := context.WithoutCancel(t.Context())
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		repo, digest, ok := strings.Cut(filepath.ToSlash(strings.TrimPrefix(name, dir+string(filepath.Separator))), "/blobs/sha256/")
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the servers tidy up
		}
		if err != nil || d.IsDir() || !ok || repo == ".ocifs" { // the last is the pool
			return err
		}
		_, err = f.ResolveBlob(ctx, repo, ociregistry.Digest("sha256:"+digest))
		if err != nil {
			_, err = f.ResolveManifest(ctx, repo, ociregistry.Digest("sha256:"+digest))
		}
		qt.Check(t, qt.IsNil(err), qt.Commentf("the file %s was left", name))
		return nil
	})
	qt.Check(t, qt.IsNil(err))
}
