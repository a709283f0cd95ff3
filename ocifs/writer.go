package ocifs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/seed-40b21970/oci/internal/manifest"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

// smallBlob is up to which size, in bytes, a blob travels in the journal.
const smallBlob = 16 << 10

// PushBlob implements [ociregistry.Writer.PushBlob]. A context that ends is
// noticed between two reads: to end a read that blocks is up to r.
func (r *Registry) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, rd io.Reader) (ociregistry.Descriptor, error) {
	if err := r.pushBlob(ctx, repo, desc, rd); err != nil {
		return ociregistry.Descriptor{}, opError(err, "PushBlob", repo, string(desc.Digest))
	}
	return desc, nil
}

func (r *Registry) pushBlob(ctx context.Context, name string, desc ociregistry.Descriptor, rd io.Reader) error {
	if err := check(ctx, name, desc.Digest); err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("%w: negative size", ociregistry.ErrSizeInvalid)
	}
	if err := r.writable(name); err != nil {
		return err
	}
	if 0 < desc.Size && desc.Size <= smallBlob {
		text, err := readSmall(ctx, rd, desc)
		if err != nil {
			return err
		}
		return r.putNewText(ctx, name, desc.Digest, text)
	}
	content, err := r.store.receive(ctx, rd, desc.Digest, desc.Size)
	if err != nil {
		return err
	}
	defer content.discard()
	return r.publish(ctx, name, desc.Digest, content)
}

// readSmall reads the content of a small blob, and checks it.
func readSmall(ctx context.Context, rd io.Reader, desc ociregistry.Descriptor) (string, error) {
	text := make([]byte, desc.Size+1)
	n, err := readFull(ctx, rd, text)
	switch {
	case err != nil && err != io.EOF:
		return "", err
	case int64(n) != desc.Size:
		return "", ociregistry.ErrSizeInvalid
	}
	text = text[:n]
	if desc.Digest.Algorithm().FromBytes(text) != desc.Digest {
		return "", ociregistry.ErrDigestInvalid
	}
	return string(text), nil
}

// putNewText is putText, and accounts for the bytes.
func (r *Registry) putNewText(ctx context.Context, name string, digest ociregistry.Digest, text string) error {
	if err := r.take(int64(len(text))); err != nil {
		return err
	}
	added, err := r.putText(ctx, name, digest, text)
	if !added {
		r.give(int64(len(text)))
	}
	return err
}

// putText makes small content, whose digest was checked, a blob of a repository.
// It reports whether the content was not stored anywhere before, as far as the
// pool knows.
func (r *Registry) putText(ctx context.Context, name string, digest ociregistry.Digest, text string) (added bool, err error) {
	repo := r.writer(name)
	// Mostly it is new, which is found out before others have to wait. If it comes
	// meanwhile, to add it once more does no harm.
	_, err = r.store.stat(repo.dir, digest)
	absent := errors.Is(err, fs.ErrNotExist)
	_, err = r.store.statPool(digest)
	if added = errors.Is(err, fs.ErrNotExist); err != nil && !added {
		return false, err
	}
	err = repo.commit(&change{ctx: ctx, creates: true, size: len(text), check: func(b *batch) error {
		has, known := repo.pendingText(digest)
		has = has || b.blobs[digest]
		if !has && !known && !absent {
			var err error
			if has, err = repo.hasFile(digest, int64(len(text))); err != nil {
				return err
			}
		}
		if !has {
			b.add(op{kind: opBlob, digest: digest, contents: text})
		}
		added = added && !has
		return nil
	}})
	return added && err == nil, repo.failed(err)
}

// pendingText reports whether the journal has a small blob, and whether the state
// knows that without its file.
func (repo *repository) pendingText(digest ociregistry.Digest) (has, known bool) {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	_, pending := repo.state.blobs[digest]
	m := repo.state.manifests[digest]
	_, deleted := repo.state.deleted[digest]
	return pending, pending || deleted || m != nil && !m.blob
}

// publish makes content, whose digest was checked, a blob of a repository. It
// makes the repository if need be.
func (r *Registry) publish(ctx context.Context, name string, digest ociregistry.Digest, content *staged) error {
	err := r.place(ctx, name, func(repo *repository) error { return r.store.put(ctx, repo.dir, digest, content) })
	if err != nil {
		return err
	}
	return r.notePlaced(ctx, name, digest)
}

// place calls put, which makes a file in a repository, and makes the repository
// if put needs it: a blob gets its name only where there is an index.json, or a
// journal that becomes one. A repository that cannot be read is left as it is.
func (r *Registry) place(ctx context.Context, name string, put func(*repository) error) error {
	repo, err := r.open(name)
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		repo = r.repository(name)
		err = r.checkDirs(repo.dir) // it has not been looked at
	}
	if err != nil {
		return err
	}
	laid, made := repo.isLaid(), false
	for {
		err := errNoLayout
		if laid {
			err = repo.placeOnce(put)
		}
		if err == nil || !errors.Is(err, errNoLayout) {
			if err != nil && made {
				repo.commit(&change{ctx: context.WithoutCancel(ctx), alone: true, work: repo.fold}) // which removes what is empty
			}
			return err
		}
		laid = true
		repo.scheduleFold() // which removes what may be left empty
		if err := repo.makeLayout(ctx); err != nil {
			return err
		}
		repo = r.keep(repo)
		repo.anchored.Store(true)
		made = true
	}
}

// isLaid reports whether there was an index.json, or a journal with changes, when the
// state was last brought up to date.
func (repo *repository) isLaid() bool {
	repo.mu.RLock()
	defer repo.mu.RUnlock()
	return repo.seen.index != nil || repo.at.offset > int64(headerLen)
}

// placeOnce calls put. When that fails, it may have left a name that is not
// durable.
func (repo *repository) placeOnce(put func(*repository) error) error {
	repo.placing.Add(1)
	_, err := repo.registry.store.staging.name() // others see that they are not alone
	if err == nil {
		err = put(repo)
	}
	if err == nil {
		err = repo.anchor()
	} else if syncErr := repo.registry.store.syncBlobDirs(repo.dir); syncErr != nil {
		return err // and count it for good
	}
	repo.placing.Add(-1)
	return err
}

// errGone is for a file that was removed just after it was placed.
var errGone = errors.New("the blob was removed")

// notePlaced makes sure that a file which was placed stays, as a blob. The file
// may be that of a manifest, which goes when the manifest is deleted; or of one
// that was deleted, and whose file is to be removed. Then the journal is to say
// otherwise. If the file is gone already, it is linked from the pool again.
func (r *Registry) notePlaced(ctx context.Context, name string, digest ociregistry.Digest) error {
	for {
		err := r.noteOnce(ctx, name, digest)
		if !errors.Is(err, errGone) {
			return err
		}
		err = r.place(ctx, name, func(repo *repository) error { return r.store.link(ctx, "", repo.dir, digest) })
		if errors.Is(err, errNoSource) && r.store.hasPool(digest) {
			return nil // it was not only removed, but deleted as a blob
		}
		if err != nil {
			return err
		}
	}
}

func (r *Registry) noteOnce(ctx context.Context, name string, digest ociregistry.Digest) error {
	repo, err := r.open(name)
	if errors.Is(err, ociregistry.ErrNameUnknown) {
		return errGone
	}
	if err != nil {
		return err
	}
	check := func() error {
		_, err := r.store.stat(repo.dir, digest)
		if errors.Is(err, fs.ErrNotExist) {
			return errGone
		}
		return err
	}
	repo.mu.RLock()
	m := repo.state.manifests[digest]
	_, deleted := repo.state.deleted[digest]
	repo.mu.RUnlock()
	if !deleted && (m == nil || m.blob) {
		return check()
	}
	return repo.commit(&change{ctx: context.WithoutCancel(ctx), creates: true, check: func(b *batch) error {
		if err := check(); err != nil {
			return err
		}
		b.add(op{kind: opBlob, digest: digest})
		return nil
	}})
}

// PushBlobChunked implements [ociregistry.Writer.PushBlobChunked]. The writer
// implements [io.ReaderFrom].
//
// A session without bytes makes no file: every Registry for the same directory can
// tell its id from others. One whose writer was closed survives the end of the process
// at any instant: another Registry for the same directory can resume it. After a power
// cut it can be resumed if its bytes are there.
//
// The first byte of more sessions than [Options.MaxUploads] allows fails with
// [ociregistry.ErrTooManyRequests]; it can be written again later.
func (r *Registry) PushBlobChunked(ctx context.Context, repo string, chunkSize int) (ociregistry.BlobWriter, error) {
	err := ociregistry.CheckRepository(repo)
	if err == nil {
		err = r.writable(repo)
	}
	if err != nil {
		return nil, opError(err, "PushBlobChunked", repo, "")
	}
	w, err := r.uploads.start(ctx, repo, chunkSize)
	return w, opError(err, "PushBlobChunked", repo, "")
}

// PushBlobChunkedResume implements [ociregistry.Writer.PushBlobChunkedResume].
func (r *Registry) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, chunkSize int) (ociregistry.BlobWriter, error) {
	err := ociregistry.CheckRepository(repo)
	if err == nil {
		err = r.writable(repo)
	}
	if err != nil {
		return nil, opError(err, "PushBlobChunkedResume", repo, id)
	}
	w, err := r.uploads.resume(ctx, repo, id, offset, chunkSize)
	return w, opError(err, "PushBlobChunkedResume", repo, id)
}

// publishUpload makes the content of an upload, whose digest was checked, a blob
// of a repository.
func (r *Registry) publishUpload(ctx context.Context, name string, digest ociregistry.Digest, content *staged) error {
	if content.size == 0 || content.size > smallBlob {
		return r.publish(ctx, name, digest, content)
	}
	text := make([]byte, content.size)
	if _, err := content.ReadAt(text, 0); err != nil && err != io.EOF {
		return err
	}
	added, err := r.putText(ctx, name, digest, string(text))
	if added {
		content.reserved = 0 // they are the blob's now
	}
	return err
}

// publishUploadText is publishUpload for content that is in no file. It reports
// whether the bytes that are accounted for it are the blob's now.
func (r *Registry) publishUploadText(ctx context.Context, name string, digest ociregistry.Digest, text string) (added bool, err error) {
	if text != "" {
		return r.putText(ctx, name, digest, text)
	}
	content, err := r.store.stage(digest.Algorithm())
	if err != nil {
		return false, err
	}
	defer content.discard()
	return false, r.publish(ctx, name, digest, content)
}

// MountBlob implements [ociregistry.Writer.MountBlob]. It costs the same for any
// size of blob where the filesystem has hard links; elsewhere it copies. Without
// a fromRepo it finds what was pushed or mounted by way of a Registry.
func (r *Registry) MountBlob(ctx context.Context, fromRepo, toRepo string, digest ociregistry.Digest) (ociregistry.Descriptor, error) {
	size, err := r.mountBlob(ctx, fromRepo, toRepo, digest)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "MountBlob", toRepo, string(digest))
	}
	return blobDescriptor(digest, size), nil
}

func (r *Registry) mountBlob(ctx context.Context, from, to string, digest ociregistry.Digest) (size int64, err error) {
	if from != "" {
		if err := ociregistry.CheckRepository(from); err != nil {
			return 0, err
		}
	}
	if err := check(ctx, to, digest); err != nil {
		return 0, err
	}
	if err := r.writable(to); err != nil {
		return 0, err
	}
	source, text, size, err := r.mountSource(from, digest)
	if from == "" && errors.Is(err, ociregistry.ErrBlobUnknown) {
		// Other programs, and pushes that were cut short, leave blobs that are not in
		// the pool.
		if source, text, size, err = r.mountSource(to, digest); err != nil {
			err = ociregistry.ErrBlobUnknown
		}
	}
	if err != nil {
		return 0, err
	}
	if text != "" {
		return size, r.putNewText(ctx, to, digest, text)
	}
	err = r.place(ctx, to, func(repo *repository) error { return r.store.link(ctx, source, repo.dir, digest) })
	if errors.Is(err, errNoSource) {
		return 0, ociregistry.ErrBlobUnknown // it was deleted meanwhile
	}
	if err != nil {
		return 0, err
	}
	return size, r.notePlaced(ctx, to, digest)
}

// mountSource returns the directory of the layout that a blob can be linked
// from, which is "" for the pool, or the blob's text.
func (r *Registry) mountSource(from string, digest ociregistry.Digest) (dir, text string, size int64, err error) {
	if from != "" {
		repo, err := r.open(from)
		if err != nil {
			return "", "", 0, err
		}
		if size, err = repo.statBlob(digest); err != nil {
			return "", "", 0, repo.missing(err)
		}
		repo.mu.RLock()
		defer repo.mu.RUnlock()
		return repo.dir, repo.state.blobs[digest], size, nil
	}
	size, err = r.store.statPool(digest)
	if !errors.Is(err, fs.ErrNotExist) {
		return "", "", size, err
	}
	text, err = r.unfoldedBlob(digest)
	if text != "" || err != nil {
		return "", text, int64(len(text)), err
	}
	// It may have gone from a journal to the pool in between.
	size, err = r.store.statPool(digest)
	if errors.Is(err, fs.ErrNotExist) {
		err = ociregistry.ErrBlobUnknown
	}
	return "", "", size, err
}

// unfoldedBlob returns the contents of a blob that only a journal has, or "".
func (r *Registry) unfoldedBlob(digest ociregistry.Digest) (string, error) {
	names, err := r.marked()
	for _, name := range names {
		repo, err := r.open(name)
		if err != nil {
			continue // it is not of this repository that the caller asks
		}
		repo.mu.RLock()
		text := repo.state.blobs[digest]
		repo.mu.RUnlock()
		if text != "" {
			return text, nil
		}
	}
	return "", err
}

// PushManifest implements [ociregistry.Writer.PushManifest]. When the digest is
// there already, with another media type, that is replaced.
func (r *Registry) PushManifest(ctx context.Context, repo string, ref string, contents []byte, mediaType string, tags ...string) (ociregistry.Descriptor, error) {
	desc, err := r.pushManifest(ctx, repo, ref, contents, mediaType, tags)
	if err != nil {
		return ociregistry.Descriptor{}, opError(err, "PushManifest", repo, ref)
	}
	return desc, nil
}

func (r *Registry) pushManifest(ctx context.Context, name string, ref string, contents []byte, mediaType string, tags []string) (desc ociregistry.Descriptor, err error) {
	if err := ociregistry.CheckRepository(name); err != nil {
		return desc, err
	}
	digest, tags, err := resolveRef(ref, contents, tags)
	if err != nil {
		return desc, err
	}
	if err := ociregistry.CheckMediaType(mediaType); err != nil {
		return desc, err
	}
	text := string(contents)
	info, err := manifest.Parse(mediaType, text)
	if err != nil {
		return desc, err
	}
	if err := ctx.Err(); err != nil {
		return desc, err
	}
	if err := r.writable(name); err != nil {
		return desc, err
	}
	p := &push{
		repo:      r.writer(name),
		ref:       ref,
		condition: ociregistry.PushConditionFrom(ctx),
		sparse:    r.opts.Sparse || ociregistry.MissingAllowed(ctx),
		op:        op{kind: opPut, digest: digest, mediaType: mediaType, size: int64(len(text)), contents: text, tags: tags, info: &info},
	}
	if err := p.commit(ctx); err != nil {
		r.give(p.taken)
		return desc, p.repo.failed(err)
	}
	r.cache.add(cloneDigest(digest), text)
	return ociregistry.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(text))}, nil
}

// resolveRef checks ref and tags, and returns the digest of contents and all the
// tags to set.
func resolveRef(ref string, contents []byte, tags []string) (ociregistry.Digest, []string, error) {
	digest := ociregistry.Digest("")
	switch {
	case strings.Contains(ref, ":"):
		digest = ociregistry.Digest(ref)
		if err := ociregistry.CheckDigest(digest); err != nil {
			return "", nil, err
		}
	case ref != "":
		tags = append([]string{ref}, tags...)
	}
	for _, tag := range tags {
		if !ociref.IsValidTag(tag) {
			return "", nil, fmt.Errorf("%w: invalid tag %.130q", ociregistry.ErrManifestInvalid, tag)
		}
	}
	if digest == "" {
		return sha256Digest(contents), tags, nil
	}
	if digest.Algorithm().FromBytes(contents) != digest {
		return "", nil, ociregistry.ErrDigestInvalid
	}
	return digest, tags, nil
}

// sha256Digest is digest.FromBytes with one allocation.
func sha256Digest(contents []byte) ociregistry.Digest {
	const prefix = "sha256:"
	sum := sha256.Sum256(contents)
	text := append(make([]byte, 0, len(prefix)+2*len(sum)), prefix...)
	return ociregistry.Digest(hex.AppendEncode(text, sum[:]))
}
