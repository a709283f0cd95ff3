package ocitest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

var uploadDefects = []defect{{
	name:     "an upload creates the repository",
	caughtBy: []string{"Repository/NotByOpenUploads", "Upload/AfterCancel", "Upload/AfterClose", "Blocking/UploadIsClosed"},
	inject: func(f *ociregistry.Funcs) {
		next, push := f.PushBlobChunked_, f.PushManifest_
		f.PushBlobChunked_ = func(ctx Ctx, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
			push(ctx, repo, "", []byte("oci-layout"), "text/plain")
			return next(ctx, repo, chunkSize)
		}
	},
}, {
	name:     "Commit does not verify",
	caughtBy: []string{"Upload/VerifiesDigest"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			w.commit = func(d dig) (desc, error) {
				got, err := w.BlobWriter.Commit(d)
				if errors.Is(err, ociregistry.ErrDigestInvalid) && ociref.IsValidDigest(string(d)) {
					return desc{Digest: d, Size: w.Size()}, nil
				}
				return got, err
			}
		})
	},
}, {
	name:     "Commit can be repeated",
	caughtBy: []string{"Upload/AfterCommit"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			var done *desc
			w.commit = func(d dig) (desc, error) {
				if done != nil {
					return *done, nil
				}
				got, err := w.BlobWriter.Commit(d)
				if err == nil {
					done = &got
				}
				return got, err
			}
		})
	},
}, {
	name:     "Commit quotes the content",
	caughtBy: []string{"Upload/ErrorsCarryNoContent"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			var all []byte
			w.write = func(p []byte) (int, error) {
				all = append(all, p...)
				return w.BlobWriter.Write(p)
			}
			w.commit = func(d dig) (desc, error) {
				got, err := w.BlobWriter.Commit(d)
				if err != nil {
					err = errors.Join(err, errors.New(string(all)))
				}
				return got, err
			}
		})
	},
}, {
	name:     "what is there cannot be uploaded",
	caughtBy: []string{"Upload/OfWhatIsThere", "Upload/ChunkSizeIsAHint"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			w.commit = func(d dig) (desc, error) {
				if _, err := f.ResolveBlob(context.Background(), repo, d); err == nil {
					return desc{}, ociregistry.ErrDenied
				}
				return w.BlobWriter.Commit(d)
			}
		})
	},
}, {
	name:     "Cancel complains after Commit",
	caughtBy: []string{"Upload/AfterCommit", "Upload/AfterCancel", "Upload/VerifiesDigest"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			ended := false
			w.commit = func(d dig) (desc, error) {
				ended = ended || ociref.IsValidDigest(string(d))
				return w.BlobWriter.Commit(d)
			}
			w.cancel = func() error {
				if ended {
					return ociregistry.ErrBlobUploadUnknown
				}
				ended = true
				return w.BlobWriter.Cancel()
			}
		})
	},
}, {
	name:     "Cancel does nothing",
	caughtBy: []string{"Upload/AfterCancel", "Session/CancelEndsItForAll", "Memory/EndedUploadsAreFreed"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			w.cancel = func() error { return nil }
		})
	},
}, {
	name:     "Close does nothing",
	caughtBy: []string{"Upload/AfterClose", "Blocking/UploadIsClosed"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			w.close = func() error { return nil }
		})
	},
}, {
	name:     "a malformed digest ends the session",
	caughtBy: []string{"Upload/MalformedDigestChangesNothing"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			w.commit = func(d dig) (desc, error) {
				got, err := w.BlobWriter.Commit(d)
				if err != nil {
					w.BlobWriter.Cancel()
				}
				return got, err
			}
		})
	},
}, {
	name:     "what is written to an upload is kept by reference",
	caughtBy: []string{"Upload/BuffersAreTheCallers"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			var kept keeper
			w.write = kept.Write
			w.commit = func(d dig) (desc, error) {
				for _, p := range kept {
					w.BlobWriter.Write(p)
				}
				return w.BlobWriter.Commit(d)
			}
		})
	},
}, {
	name:     "uploads are buffered",
	caughtBy: []string{"Memory/UploadsDoNotBuffer"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			var all bytes.Buffer
			w.write = all.Write
			w.commit = func(d dig) (desc, error) {
				w.BlobWriter.Write(all.Bytes())
				return w.BlobWriter.Commit(d)
			}
		})
	},
}, {
	name:     "writers have no chunk size",
	caughtBy: []string{"Upload/ChunkSizeIsAHint", "Session/Resumes"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			w.chunkSize = func() int { return 0 }
		})
	},
}, {
	name:     "SHA-512 has to be announced",
	caughtBy: []string{"Upload/SHA512", "Upload/Empty"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			w.commit = func(d dig) (desc, error) {
				if strings.HasPrefix(string(d), "sha512:") {
					return desc{}, ociregistry.ErrDigestInvalid
				}
				return w.BlobWriter.Commit(d)
			}
		})
	},
}, {
	name:     "ReadFrom forgets what came before an error",
	caughtBy: []string{"Upload/ReaderFrom"},
	inject: func(f *ociregistry.Funcs) {
		next := f.PushBlobChunked_
		f.PushBlobChunked_ = func(ctx Ctx, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := next(ctx, repo, chunkSize)
			if err != nil {
				return nil, err
			}
			return readerFrom{w}, nil
		}
	},
}, {
	name:     "an open upload locks the registry",
	caughtBy: []string{"Blocking/Upload"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		next := f.PushBlobChunked_
		f.PushBlobChunked_ = func(ctx Ctx, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := next(ctx, repo, chunkSize)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			unlock := sync.OnceFunc(mu.Unlock)
			return &writer{
				BlobWriter: w,
				commit:     func(d dig) (desc, error) { defer unlock(); return w.Commit(d) },
				cancel:     func() error { defer unlock(); return w.Cancel() },
				close:      func() error { defer unlock(); return w.Close() },
			}, nil
		}
	},
}, {
	name:     "sessions start anew",
	caughtBy: []string{"Session/Resumes", "Session/ResumesManyTimes", "Session/SessionsAreIndependent", "Context/UploadSurvives"},
	inject: func(f *ociregistry.Funcs) {
		start, resume := f.PushBlobChunked_, f.PushBlobChunkedResume_
		f.PushBlobChunkedResume_ = func(ctx Ctx, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			if w, err := resume(ctx, repo, id, offset, chunkSize); err != nil {
				return w, err
			}
			return start(ctx, repo, chunkSize)
		}
	},
}, {
	name:     "a session without content is none",
	caughtBy: []string{"Session/ResumesBeforeFirstWrite"},
	inject: func(f *ociregistry.Funcs) {
		resume := f.PushBlobChunkedResume_
		f.PushBlobChunkedResume_ = func(ctx Ctx, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := resume(ctx, repo, id, offset, chunkSize)
			if err == nil && w.Size() == 0 {
				return nil, ociregistry.ErrBlobUploadUnknown
			}
			return w, err
		}
	},
}, {
	name:     "offsets are ignored",
	caughtBy: []string{"Session/WrongOffset"},
	inject: func(f *ociregistry.Funcs) {
		resume := f.PushBlobChunkedResume_
		f.PushBlobChunkedResume_ = func(ctx Ctx, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			return resume(ctx, repo, id, -1, chunkSize)
		}
	},
}, {
	name:     "sessions are everybody's",
	caughtBy: []string{"Session/BelongsToARepository"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		owner := make(map[string]string)
		start, resume := f.PushBlobChunked_, f.PushBlobChunkedResume_
		f.PushBlobChunked_ = func(ctx Ctx, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := start(ctx, repo, chunkSize)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				owner[w.ID()] = repo
			}
			return w, err
		}
		f.PushBlobChunkedResume_ = func(ctx Ctx, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			mu.Lock()
			defer mu.Unlock()
			if owner[id] != "" {
				repo = owner[id]
			}
			return resume(ctx, repo, id, offset, chunkSize)
		}
	},
}, {
	name:     "a repository has one session",
	caughtBy: []string{"Session/IDsAreUnique", "Session/SessionsAreIndependent"},
	inject: func(f *ociregistry.Funcs) {
		var mu sync.Mutex
		session := make(map[string]string)
		start := f.PushBlobChunked_
		f.PushBlobChunked_ = func(ctx Ctx, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
			mu.Lock()
			defer mu.Unlock()
			if id := session[repo]; id != "" {
				return f.PushBlobChunkedResume_(ctx, repo, id, -1, chunkSize)
			}
			w, err := start(ctx, repo, chunkSize)
			if err == nil {
				session[repo] = w.ID()
			}
			return w, err
		}
	},
}, {
	name:     "late writers append",
	caughtBy: []string{"Session/OneWriterAtAnOffset", "Concurrency/WritersOfOneSession"},
	inject: func(f *ociregistry.Funcs) {
		resume := f.PushBlobChunkedResume_
		f.PushBlobChunkedResume_ = func(ctx Ctx, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := resume(ctx, repo, id, offset, chunkSize)
			if err != nil {
				return nil, err
			}
			return &writer{BlobWriter: w, write: func(p []byte) (int, error) {
				for {
					n, err := w.Write(p)
					if !errors.Is(err, ociregistry.ErrRangeInvalid) {
						return n, err
					}
					if w, err = resume(ctx, repo, id, -1, chunkSize); err != nil {
						return 0, err
					}
				}
			}}, nil
		}
	},
}, {
	name:     "late writers commit what they saw",
	caughtBy: []string{"Session/CommitOfALateWriter", "Concurrency/CommitAndWrite"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			w.commit = func(d dig) (desc, error) {
				got, err := w.BlobWriter.Commit(d)
				if errors.Is(err, ociregistry.ErrRangeInvalid) {
					return desc{Digest: d, Size: w.Size()}, nil
				}
				return got, err
			}
		})
	},
}, {
	name:     "a writer forgets that it failed",
	caughtBy: []string{"Session/FailedWriteStaysFailed"},
	inject: func(f *ociregistry.Funcs) {
		resume := f.PushBlobChunkedResume_
		f.PushBlobChunkedResume_ = func(ctx Ctx, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := resume(ctx, repo, id, offset, chunkSize)
			if err != nil {
				return nil, err
			}
			ww := &writer{BlobWriter: w}
			ww.write = func(p []byte) (int, error) {
				n, err := ww.BlobWriter.Write(p)
				if errors.Is(err, ociregistry.ErrRangeInvalid) {
					if again, err := resume(ctx, repo, id, -1, chunkSize); err == nil {
						ww.BlobWriter = again // where nothing of p is
					}
				}
				return n, err
			}
			return ww, nil
		}
	},
}, {
	name:     "an ended session takes more",
	caughtBy: []string{"Session/CommitEndsItForAll", "Session/CancelEndsItForAll", "Upload/AfterCommit", "Upload/AfterCancel"},
	inject: func(f *ociregistry.Funcs) {
		wrapWriters(f, func(w *writer, repo string) {
			w.write = func(p []byte) (int, error) {
				n, err := w.BlobWriter.Write(p)
				if errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
					return len(p), nil
				}
				return n, err
			}
		})
	},
}, {
	name:     "a context takes its session along",
	caughtBy: []string{"Context/UploadSurvives"},
	inject: func(f *ociregistry.Funcs) {
		resume := f.PushBlobChunkedResume_
		f.PushBlobChunkedResume_ = func(ctx Ctx, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
			w, err := resume(ctx, repo, id, offset, chunkSize)
			if err != nil {
				return nil, err
			}
			return &writer{BlobWriter: w, write: func(p []byte) (int, error) {
				if ctx.Err() != nil {
					w.Cancel()
					return 0, ctx.Err()
				}
				return w.Write(p)
			}}, nil
		}
	},
}}

// readerFrom is a BlobWriter with a ReadFrom.
type readerFrom struct{ ociregistry.BlobWriter }

func (w readerFrom) ReadFrom(r io.Reader) (int64, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(data)
	return int64(n), err
}

var mountDefects = []defect{{
	name:     "mounts do nothing",
	caughtBy: []string{"MountBlob/FromRepository", "MountBlob/FromAnyRepository", "MountBlob/SHA512", "MountBlob/ServesManifests"},
	inject: func(f *ociregistry.Funcs) {
		f.MountBlob_ = func(ctx Ctx, from, to string, d dig) (desc, error) {
			return desc{Digest: d}, nil
		}
	},
}, {
	name:     "mounts move",
	caughtBy: []string{"MountBlob/FromRepository", "MountBlob/AlreadyThere"},
	inject: func(f *ociregistry.Funcs) {
		next, remove := f.MountBlob_, f.DeleteBlob_
		f.MountBlob_ = func(ctx Ctx, from, to string, d dig) (desc, error) {
			got, err := next(ctx, from, to, d)
			if err == nil && from != "" {
				remove(ctx, from, d)
			}
			return got, err
		}
	},
}, {
	name:     "mounts take from where they can",
	caughtBy: []string{"MountBlob/SourceHasToHaveIt", "MountBlob/UnknownSource"},
	inject: func(f *ociregistry.Funcs) {
		next := f.MountBlob_
		f.MountBlob_ = func(ctx Ctx, from, to string, d dig) (desc, error) {
			return next(ctx, "", to, d)
		}
	},
}, {
	name:     "mounts need a source",
	caughtBy: []string{"MountBlob/FromAnyRepository", "MountBlob/NobodyHasIt"},
	inject: func(f *ociregistry.Funcs) {
		next := f.MountBlob_
		f.MountBlob_ = func(ctx Ctx, from, to string, d dig) (desc, error) {
			if from == "" {
				return desc{}, ociregistry.ErrNameInvalid
			}
			return next(ctx, from, to, d)
		}
	},
}, {
	name:     "an unknown source has unknown blobs",
	caughtBy: []string{"MountBlob/UnknownSource"},
	inject: func(f *ociregistry.Funcs) {
		next := f.MountBlob_
		f.MountBlob_ = func(ctx Ctx, from, to string, d dig) (desc, error) {
			got, err := next(ctx, from, to, d)
			return got, swap(err, ociregistry.ErrNameUnknown, ociregistry.ErrBlobUnknown)
		}
	},
}, {
	name:     "what is there cannot be mounted",
	caughtBy: []string{"MountBlob/AlreadyThere"},
	inject: func(f *ociregistry.Funcs) {
		next := f.MountBlob_
		f.MountBlob_ = func(ctx Ctx, from, to string, d dig) (desc, error) {
			if _, err := f.ResolveBlob(ctx, to, d); err == nil {
				return desc{}, ociregistry.ErrDenied
			}
			return next(ctx, from, to, d)
		}
	},
}, {
	name:     "a mount trusts its check",
	caughtBy: []string{"Concurrency/DeleteBlobAndMount"},
	inject: func(f *ociregistry.Funcs) {
		next := f.MountBlob_
		f.MountBlob_ = func(ctx Ctx, from, to string, d dig) (desc, error) {
			got, err := f.ResolveBlob(ctx, from, d)
			if err != nil {
				return desc{}, err
			}
			yield()
			next(ctx, from, to, d)
			return got, nil
		}
	},
}}
