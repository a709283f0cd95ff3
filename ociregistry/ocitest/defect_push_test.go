package ocitest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/internal/verified"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

var pushBlobDefects = []defect{{
	name:     "digests are not verified",
	caughtBy: []string{"PushBlob/VerifiesDigest", "Repository/NotByFailedCalls", "PushBlob/SHA512"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			got, err := next(r)
			if errors.Is(err, ociregistry.ErrDigestInvalid) && ociref.IsValidDigest(string(d.Digest)) {
				return d, nil
			}
			return got, err
		})
	},
}, {
	name:     "sizes are not verified",
	caughtBy: []string{"PushBlob/VerifiesSize"},
	inject: func(f *ociregistry.Funcs) {
		next := f.PushBlob_
		f.PushBlob_ = func(ctx Ctx, repo string, d desc, r io.Reader) (desc, error) {
			data, err := io.ReadAll(r)
			if err != nil {
				return desc{}, err
			}
			d.Size = int64(len(data))
			return next(ctx, repo, d, bytes.NewReader(data))
		}
	},
}, {
	name:     "readers that verify are believed before they end",
	caughtBy: []string{"PushBlob/FromReaderThatVerifies"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			believed := verified.By(r).Digest == d.Digest
			got, err := next(r)
			if believed && errors.Is(err, ociregistry.ErrDigestInvalid) {
				return d, nil
			}
			return got, err
		})
	},
}, {
	name:     "a reader's error is not told",
	caughtBy: []string{"PushBlob/FailsWithItsReader", "PushBlob/FailureKeepsWhatIsThere"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, _ desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			got, err := next(r)
			return got, swap(err, errReader, ociregistry.ErrSizeInvalid)
		})
	},
}, {
	name:     "a push that failed removes what was there",
	caughtBy: []string{"PushBlob/FailureKeepsWhatIsThere"},
	inject: func(f *ociregistry.Funcs) {
		remove := f.DeleteBlob_
		wrapPushBlob(f, func(ctx Ctx, repo string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			got, err := next(r)
			if err != nil {
				remove(ctx, repo, d.Digest)
			}
			return got, err
		})
	},
}, {
	name:     "a push that failed creates the repository",
	caughtBy: []string{"Repository/NotByFailedCalls", "PushBlob/VerifiesDigest", "PushBlob/VerifiesSize", "PushBlob/FailsWithItsReader", "Context/EndedBefore", "Context/EndsPushBlob", "Context/EndsPushBlobAtItsReader"},
	inject: func(f *ociregistry.Funcs) {
		push := f.PushManifest_
		wrapPushBlob(f, func(ctx Ctx, repo string, _ desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			push(context.WithoutCancel(ctx), repo, "", []byte("oci-layout"), "text/plain")
			return next(r)
		})
	},
}, {
	name:     "errors quote the content",
	caughtBy: []string{"PushBlob/ErrorsCarryNoContent"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, _ desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			var head bytes.Buffer
			got, err := next(io.TeeReader(r, &head))
			if err != nil {
				err = errors.Join(err, errors.New(head.String()[:min(100, head.Len())]))
			}
			return got, err
		})
	},
}, {
	name:     "a blob cannot be pushed twice",
	caughtBy: []string{"PushBlob/Again"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(ctx Ctx, repo string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			if _, err := f.ResolveBlob(ctx, repo, d.Digest); err == nil {
				return desc{}, ociregistry.ErrDenied
			}
			return next(r)
		})
	},
}, {
	name:     "a Read without bytes is the end",
	caughtBy: []string{"PushBlob/AnyReader"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, _ desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			return next(readFunc(func(p []byte) (int, error) {
				n, err := r.Read(p)
				if n == 0 {
					return 0, io.EOF
				}
				return n, err
			}))
		})
	},
}, {
	name:     "what is written is kept by reference",
	caughtBy: []string{"PushBlob/BuffersAreTheCallers"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, _ desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			var kept keeper
			if _, err := io.Copy(&kept, r); err != nil {
				return desc{}, err
			}
			return next(bytes.NewReader(bytes.Join(kept, nil)))
		})
	},
}, {
	name:     "SHA-512 is unknown",
	caughtBy: []string{"PushBlob/SHA512", "Read/BlobSHA512", "MountBlob/SHA512"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			if d.Digest.Algorithm() == digest.SHA512 {
				return desc{}, ociregistry.ErrDigestInvalid
			}
			return next(r)
		})
	},
}, {
	name:     "blobs must have a media type",
	caughtBy: []string{"PushBlob/OnlyDigestAndSizeMatter"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			if strings.Contains(d.MediaType, " ") {
				return desc{}, ociregistry.ErrManifestInvalid
			}
			return next(r)
		})
	},
}, {
	name:     "contexts are not looked at",
	caughtBy: []string{"Context/EndedBefore", "Context/EndsPushBlob"},
	inject: func(f *ociregistry.Funcs) {
		next := f.PushBlob_
		f.PushBlob_ = func(ctx Ctx, repo string, d desc, r io.Reader) (desc, error) {
			return next(context.WithoutCancel(ctx), repo, d, r)
		}
	},
}, {
	name:     "a push locks the registry",
	caughtBy: []string{"Blocking/PushBlob"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		wrapPushBlob(f, func(_ Ctx, _ string, _ desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			mu.Lock()
			defer mu.Unlock()
			return next(r)
		})
	},
}, {
	name:     "blobs are buffered to be pushed",
	caughtBy: []string{"Memory/PushBlobDoesNotBuffer"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, _ desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			data, err := io.ReadAll(r)
			if err != nil {
				return desc{}, err
			}
			return next(bytes.NewReader(data))
		})
	},
}, {
	name:     "what is announced is allocated",
	caughtBy: []string{"Memory/ClaimsAllocateNothing"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushBlob(f, func(_ Ctx, _ string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			buf := make([]byte, d.Size)
			n, err := io.ReadFull(r, buf)
			if err != nil && err != io.ErrUnexpectedEOF {
				return desc{}, err
			}
			return next(bytes.NewReader(buf[:n]))
		})
	},
}, {
	name:     "blobs are never freed",
	caughtBy: []string{"Memory/DeletedBlobsAreFreed"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		var kept [][]byte
		wrapPushBlob(f, func(_ Ctx, _ string, _ desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			data, err := io.ReadAll(r)
			if err != nil {
				return desc{}, err
			}
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, data)
			return next(bytes.NewReader(data))
		})
	},
}, {
	name:     "concurrent pushes of one blob share a reader",
	caughtBy: []string{"Concurrency/OneBlob", "Blocking/PushBlob"},
	inject: func(f *ociregistry.Funcs) {
		// The second push trusts the first, which may fail.
		var mu sync.Mutex
		pending := make(map[dig]bool)
		wrapPushBlob(f, func(_ Ctx, _ string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			mu.Lock()
			busy := pending[d.Digest]
			pending[d.Digest] = true
			mu.Unlock()
			if yield(); busy {
				return d, nil
			}
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				delete(pending, d.Digest)
			}()
			return next(r)
		})
	},
}}

// readFunc is an io.Reader.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// keeper is a writer that keeps what it is given.
type keeper [][]byte

func (k *keeper) Write(p []byte) (int, error) {
	*k = append(*k, p)
	return len(p), nil
}
