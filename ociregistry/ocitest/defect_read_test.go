package ocitest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

var argumentDefects = []defect{{
	name:     "invalid names are merely unknown",
	caughtBy: []string{"Arguments/RepositoryNames", "Arguments/Order"},
	inject: func(f *ociregistry.Funcs) {
		next := f.ResolveBlob_
		f.ResolveBlob_ = func(ctx Ctx, repo string, d dig) (desc, error) {
			desc, err := next(ctx, repo, d)
			return desc, swap(err, ociregistry.ErrNameInvalid, ociregistry.ErrNameUnknown)
		}
	},
}, {
	name:     "malformed digests are merely unknown",
	caughtBy: []string{"Arguments/Digests"},
	inject: func(f *ociregistry.Funcs) {
		next := f.DeleteManifest_
		f.DeleteManifest_ = func(ctx Ctx, repo string, d dig) error {
			return swap(next(ctx, repo, d), ociregistry.ErrDigestInvalid, ociregistry.ErrManifestUnknown)
		}
	},
}, {
	name:     "tags that cannot exist are invalid when they are read",
	caughtBy: []string{"Arguments/Tags"},
	inject: func(f *ociregistry.Funcs) {
		next := f.ResolveTag_
		f.ResolveTag_ = func(ctx Ctx, repo, tag string) (desc, error) {
			if !ociref.IsValidTag(tag) {
				return desc{}, ociregistry.ErrManifestInvalid
			}
			return next(ctx, repo, tag)
		}
	},
}, {
	name:     "an invalid tag is not named",
	caughtBy: []string{"Arguments/TagOfAPush"},
	inject: func(f *ociregistry.Funcs) {
		wrapPushManifest(f, func(p manifestPush, next func(manifestPush) (desc, error)) (desc, error) {
			d, err := next(p)
			return d, swap(err, ociregistry.ErrManifestInvalid, ociregistry.ErrManifestInvalid)
		})
	},
}, {
	name:     "digests are checked before names",
	caughtBy: []string{"Arguments/Order"},
	inject: func(f *ociregistry.Funcs) {
		next := f.DeleteBlob_
		f.DeleteBlob_ = func(ctx Ctx, repo string, d dig) error {
			if !ociref.IsValidDigest(string(d)) {
				return ociregistry.ErrDigestInvalid
			}
			return next(ctx, repo, d)
		}
	},
}, {
	name:     "content is read before arguments are checked",
	caughtBy: []string{"Arguments/NothingIsReadBefore"},
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
	name:     "odd upload ids fail in odd ways",
	caughtBy: []string{"Arguments/UploadIDs"},
	inject: func(f *ociregistry.Funcs) {
		next := f.PushBlobChunkedResume_
		f.PushBlobChunkedResume_ = func(ctx Ctx, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			if strings.Contains(id, "\x00") {
				return nil, errors.New("open uploads: invalid argument")
			}
			return next(ctx, repo, id, offset, chunkSize)
		}
	},
}}

// nameless removes the blobs' repositories: all blobs are everybody's.
func nameless(f *ociregistry.Funcs) {
	var mu sync.Mutex
	owner := make(map[dig]string)
	wrapPushBlob(f, func(_ Ctx, repo string, d desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
		got, err := next(r)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			owner[d.Digest] = repo
		}
		return got, err
	})
	next := f.GetBlob_
	f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
		r, err := next(ctx, repo, d)
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, ociregistry.ErrBlobUnknown) && owner[d] != "" {
			return next(ctx, owner[d], d)
		}
		return r, err
	}
}

var readDefects = []defect{{
	name: "blobs lack their last byte",
	caughtBy: []string{
		"Read/Blob", "Read/BlobOfEachSize", "Read/BlobSHA512", "Read/ReadersAreIndependent",
		"PushBlob/Stores", "PushBlob/OnlyDigestAndSizeMatter", "PushBlob/AnyReader",
		"Upload/Stores", "Upload/ManyWrites", "MountBlob/AlreadyThere", "MountBlob/ServesManifests",
		"Repository/LongNames", "Concurrency/OneBlob", "Concurrency/ManyOfEverything",
	},
	inject: func(f *ociregistry.Funcs) {
		wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
			limited := io.LimitReader(r, max(r.Descriptor().Size-1, 0))
			return reader{BlobReader: r, read: limited.Read}
		})
	},
}, {
	name:     "an empty blob counts as absent",
	caughtBy: []string{"Read/BlobOfEachSize", "PushBlob/Empty", "Upload/Empty"},
	inject: func(f *ociregistry.Funcs) {
		next := f.ResolveBlob_
		f.ResolveBlob_ = func(ctx Ctx, repo string, d dig) (desc, error) {
			got, err := next(ctx, repo, d)
			if err == nil && got.Size == 0 {
				return desc{}, ociregistry.ErrBlobUnknown
			}
			return got, err
		}
	},
}, {
	name:     "ResolveBlob makes up a media type",
	caughtBy: []string{"Read/Blob"},
	inject: func(f *ociregistry.Funcs) {
		next := f.ResolveBlob_
		f.ResolveBlob_ = func(ctx Ctx, repo string, d dig) (desc, error) {
			got, err := next(ctx, repo, d)
			got.MediaType = "text/plain"
			return got, err
		}
	},
}, {
	name:     "tags give all manifests one media type",
	caughtBy: []string{"Read/ManifestAndTag", "PushManifest/UnknownMediaType"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetTag_
		f.GetTag_ = func(ctx Ctx, repo, tag string) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, tag)
			if err != nil {
				return nil, err
			}
			d := r.Descriptor()
			d.MediaType = "application/json"
			return reader{BlobReader: r, desc: &d}, nil
		}
	},
}, {
	name:     "an unknown blob is an unknown manifest",
	caughtBy: []string{"Read/UnknownBlob", "Repository/BeginsWithAManifest"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetBlob_
		f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d)
			return r, swap(err, ociregistry.ErrBlobUnknown, ociregistry.ErrManifestUnknown)
		}
	},
}, {
	name:     "blobs are manifests as well",
	caughtBy: []string{"Read/UnknownManifest"},
	inject: func(f *ociregistry.Funcs) {
		next, blob := f.GetManifest_, f.GetBlob_
		f.GetManifest_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d)
			if errors.Is(err, ociregistry.ErrManifestUnknown) {
				return blob(ctx, repo, d)
			}
			return r, err
		}
	},
}, {
	name:     "an unknown repository has unknown blobs",
	caughtBy: []string{"Read/UnknownRepository", "Repository/NoneAtFirst", "Repository/BeginsWithABlob"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetBlob_
		f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d)
			return r, swap(err, ociregistry.ErrNameUnknown, ociregistry.ErrBlobUnknown)
		}
	},
}, {
	name:     "blobs are everybody's",
	caughtBy: []string{"Read/OtherRepository", "PushBlob/OneRepositoryOnly"},
	inject:   nameless,
}, {
	name:     "ranges include their end",
	caughtBy: []string{"Read/Range"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetBlobRange_
		f.GetBlobRange_ = func(ctx Ctx, repo string, d dig, offset0, offset1 int64) (ociregistry.BlobReader, error) {
			if offset1 >= 0 && offset1 < 1<<40 {
				offset1++
			}
			return next(ctx, repo, d, offset0, offset1)
		}
	},
}, {
	name:     "ranges may begin anywhere",
	caughtBy: []string{"Read/Range", "Read/RangeOfEmptyBlob"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetBlobRange_
		f.GetBlobRange_ = func(ctx Ctx, repo string, d dig, offset0, offset1 int64) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d, offset0, offset1)
			if errors.Is(err, ociregistry.ErrRangeInvalid) {
				return next(ctx, repo, d, 0, 0)
			}
			return r, err
		}
	},
}, {
	name:     "a range describes itself",
	caughtBy: []string{"Read/Range"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetBlobRange_
		f.GetBlobRange_ = func(ctx Ctx, repo string, d dig, offset0, offset1 int64) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d, offset0, offset1)
			if err != nil {
				return nil, err
			}
			part := r.Descriptor()
			part.Size -= offset0
			return reader{BlobReader: r, desc: &part}, nil
		}
	},
}, {
	name:     "a range of an unknown blob is empty",
	caughtBy: []string{"Read/RangeOfUnknownBlob"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetBlobRange_
		f.GetBlobRange_ = func(ctx Ctx, repo string, d dig, offset0, offset1 int64) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d, offset0, offset1)
			return r, swap(err, ociregistry.ErrBlobUnknown, ociregistry.ErrRangeInvalid)
		}
	},
}, {
	name:     "the end of a blob is an error",
	caughtBy: []string{"Read/ReadersAreGood"},
	inject: func(f *ociregistry.Funcs) {
		wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
			return reader{BlobReader: r, read: func(p []byte) (int, error) {
				n, err := r.Read(p)
				return n, swap(err, io.EOF, io.ErrUnexpectedEOF)
			}}
		})
	},
}, {
	name:     "readers of one blob share their position",
	caughtBy: []string{"Read/ReadersAreIndependent"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		open := make(map[dig]ociregistry.BlobReader)
		wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
			mu.Lock()
			defer mu.Unlock()
			d := r.Descriptor().Digest
			if open[d] == nil {
				open[d] = r
			}
			return open[d]
		})
	},
}, {
	name:     "the buffers of readers are kept",
	caughtBy: []string{"Read/BuffersAreTheCallers"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		cache := make(map[dig][][]byte)
		wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
			mu.Lock()
			defer mu.Unlock()
			d := r.Descriptor().Digest
			if cached := cache[d]; cached != nil {
				return reader{BlobReader: r, read: bytes.NewReader(bytes.Join(cached, nil)).Read}
			}
			return reader{BlobReader: r, read: func(p []byte) (int, error) {
				n, err := r.Read(p)
				mu.Lock()
				defer mu.Unlock()
				cache[d] = append(cache[d], p[:n])
				return n, err
			}}
		})
	},
}, {
	name:     "WriteTo begins at the beginning",
	caughtBy: []string{"Read/WriterTo", "Blocking/WriterTo"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetBlob_
		f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d)
			if err != nil {
				return nil, err
			}
			return rewinder{r, func(w io.Writer) (int64, error) {
				w.Write([]byte("x"))
				whole, err := next(ctx, repo, d)
				if err != nil {
					return 0, err
				}
				defer whole.Close()
				return io.Copy(w, whole)
			}}, nil
		}
	},
}, {
	name:     "blobs are opened when they are read",
	caughtBy: []string{"Snapshot/BlobDeleted"},
	inject: func(f *ociregistry.Funcs) {
		next, part := f.GetBlob_, f.GetBlobRange_
		f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d)
			if err != nil {
				return nil, err
			}
			offset := int64(0)
			return reader{BlobReader: r, read: func(p []byte) (int, error) {
				r, err := part(ctx, repo, d, offset, -1)
				if err != nil {
					return 0, err
				}
				defer r.Close()
				n, err := r.Read(p)
				offset += int64(n)
				return n, err
			}}, nil
		}
	},
}, {
	name:     "manifests are opened when they are read",
	caughtBy: []string{"Snapshot/ManifestDeleted"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetManifest_
		f.GetManifest_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d)
			if err != nil {
				return nil, err
			}
			return reader{BlobReader: r, read: func(p []byte) (int, error) {
				if _, err := f.ResolveManifest(ctx, repo, d); err != nil {
					return 0, err
				}
				return r.Read(p)
			}}, nil
		}
	},
}, {
	name:     "tags are looked up when they are read",
	caughtBy: []string{"Snapshot/TagMoved"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetTag_
		f.GetTag_ = func(ctx Ctx, repo, tag string) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, tag)
			if err != nil {
				return nil, err
			}
			offset := int64(0)
			return reader{BlobReader: r, read: func(p []byte) (int, error) {
				r, err := next(ctx, repo, tag)
				if err != nil {
					return 0, err
				}
				defer r.Close()
				io.CopyN(io.Discard, r, offset)
				n, err := r.Read(p)
				offset += int64(n)
				return n, err
			}}, nil
		}
	},
}, {
	name:     "a reader keeps its repository locked",
	caughtBy: []string{"Blocking/Reader"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.RWMutex
		next := f.GetBlob_
		f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			r, err := next(ctx, repo, d)
			if err != nil {
				return nil, err
			}
			mu.RLock()
			return closer{r, func() error { mu.RUnlock(); return r.Close() }}, nil
		}
		wrapPushBlob(f, func(_ Ctx, _ string, _ desc, r io.Reader, next func(io.Reader) (desc, error)) (desc, error) {
			mu.Lock()
			defer mu.Unlock()
			return next(r)
		})
	},
}, {
	name:     "Close of a reader waits for the end",
	caughtBy: []string{"Blocking/ReaderIsClosed"},
	inject: func(f *ociregistry.Funcs) {
		wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
			return closer{reader{BlobReader: r}, func() error { return errors.New("still in use") }}
		})
	},
}, {
	name:     "readers ask nobody whether their context has ended, and fail for another reason",
	caughtBy: []string{"Context/EndedBefore"},
	inject: func(f *ociregistry.Funcs) {
		next := f.GetBlob_
		f.GetBlob_ = func(ctx Ctx, repo string, d dig) (ociregistry.BlobReader, error) {
			if ctx.Err() != nil {
				return nil, errors.New("connection refused")
			}
			return next(ctx, repo, d)
		}
	},
}, {
	name:     "blobs are buffered to be read",
	caughtBy: []string{"Memory/ReadsDoNotBuffer"},
	inject: func(f *ociregistry.Funcs) {
		wrapGetBlob(f, func(r ociregistry.BlobReader) ociregistry.BlobReader {
			data, _ := io.ReadAll(r)
			return reader{BlobReader: r, read: bytes.NewReader(data).Read}
		})
	},
}}

// rewinder is a BlobReader with a WriteTo.
type rewinder struct {
	ociregistry.BlobReader
	writeTo func(io.Writer) (int64, error)
}

func (r rewinder) WriteTo(w io.Writer) (int64, error) { return r.writeTo(w) }

// closer is a BlobReader with another Close.
type closer struct {
	ociregistry.BlobReader
	close func() error
}

func (r closer) Close() error { return r.close() }
