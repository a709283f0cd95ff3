package ocitest

import (
	"cmp"
	"errors"
	"math"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Sessions outlive their writers.

var sessionClauses = []clause{
	{name: "Resumes", needs: ResumeUploads, run: sessionResumes},
	{name: "ResumesBeforeFirstWrite", needs: ResumeUploads, run: sessionResumesEmpty},
	{name: "ResumesManyTimes", needs: ResumeUploads, run: sessionResumesOften},
	{name: "WrongOffset", needs: ResumeUploads, run: sessionWrongOffset},
	{name: "BelongsToARepository", needs: ResumeUploads, run: sessionRepository},
	{name: "IDsAreUnique", needs: ResumeUploads, run: sessionIDs},
	{name: "SessionsAreIndependent", needs: ResumeUploads, run: sessionsIndependent},
	{name: "OneWriterAtAnOffset", needs: ResumeUploads, run: sessionTwoWriters},
	{name: "CommitOfALateWriter", needs: ResumeUploads, run: sessionLateCommit},
	{name: "FailedWriteStaysFailed", needs: ResumeUploads, run: sessionFailedWrite},
	{name: "CommitEndsItForAll", needs: ResumeUploads, run: sessionCommitted},
	{name: "CancelEndsItForAll", needs: ResumeUploads, run: sessionCancelled},
}

func (t *test) mustResume(repo, id string, offset int64) ociregistry.BlobWriter {
	t.Helper()
	w, err := t.reg.PushBlobChunkedResume(t.Context(), repo, id, offset, 0)
	t.must(err, "PushBlobChunkedResume at %d", offset)
	return w
}

// tryResume returns the error of resuming a session. Over HTTP, the error may occur only
// when bytes are sent.
func (t *test) tryResume(repo, id string, offset int64) error {
	w, err := t.reg.PushBlobChunkedResume(t.Context(), repo, id, offset, 0)
	if err != nil {
		return err
	}
	if t.opts.Remote {
		_, err = w.Write(content(99, 300))
		err = cmp.Or(err, w.Close())
	}
	if err == nil {
		w.Cancel()
	}
	return err
}

// mustPark begins a session, writes data and closes the writer.
func (t *test) mustPark(repo string, data []byte) (id string) {
	t.Helper()
	w := t.mustStart(repo, 0)
	t.mustWrite(w, data)
	t.must(w.Close(), "Close of an upload")
	t.wantSize(w, len(data), "after Close")
	return w.ID()
}

func sessionResumes(t *test) {
	for _, offset := range []int64{6000, -1} {
		data := content(uint64(offset+2), 10_000)
		id := t.mustPark("foo", data[:6000])
		w := t.mustResume("foo", id, offset)
		t.wantSize(w, 6000, "of a resumed upload")
		if w.ChunkSize() <= 0 {
			t.Errorf("ChunkSize of a resumed upload: got %d, want more than 0", w.ChunkSize())
		}
		t.mustWrite(w, data[6000:])
		t.wantSize(w, 10_000, "of a resumed upload after 4000 more bytes")
		t.mustCommit(w, data, describe(data).Digest)
		t.wantBlob("foo", data, describe(data).Digest)
	}
}

func sessionResumesEmpty(t *test) {
	for _, offset := range []int64{0, -1} {
		data := content(uint64(offset+2), 100)
		id := t.mustPark("foo", nil)
		w := t.mustResume("foo", id, offset)
		t.wantSize(w, 0, "of a resumed upload without content")
		t.mustWrite(w, data)
		t.mustCommit(w, data, describe(data).Digest)
		t.wantBlob("foo", data, describe(data).Digest)
	}
}

// A session can be resumed by the ID of each of its writers, and a resumed writer can commit
// without writing.
func sessionResumesOften(t *test) {
	data := content(1, 10_000)
	id := t.mustPark("foo", nil)
	for offset := int64(0); offset < 10_000; offset += 1000 {
		w := t.mustResume("foo", id, offset)
		t.mustWrite(w, data[offset:offset+1000])
		t.must(w.Close(), "Close of a resumed upload")
		t.wantSize(w, int(offset)+1000, "of a resumed upload after Close")
		id = w.ID()
	}
	t.mustCommit(t.mustResume("foo", id, -1), data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

func sessionWrongOffset(t *test) {
	data := content(1, 1000)
	id := t.mustPark("foo", data[:500])
	for _, offset := range []int64{0, 1, 499, 501, 1000, -2, math.MinInt64, math.MaxInt64} {
		t.wantErr(t.tryResume("foo", id, offset), is(ociregistry.ErrRangeInvalid), "PushBlobChunkedResume at %d of 500", offset)
	}
	w := t.mustResume("foo", id, 500)
	t.mustWrite(w, data[500:])
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

func sessionRepository(t *test) {
	data := content(1, 1000)
	t.mustPushBlob("bar", []byte("x"))
	id := t.mustPark("foo", data[:500])
	for _, repo := range []string{"bar", "foo/bar", "unknown"} {
		for _, offset := range []int64{-1, 0, 500} {
			err := t.tryResume(repo, id, offset)
			t.wantErr(err, is(ociregistry.ErrBlobUploadUnknown), "PushBlobChunkedResume in %s, of an upload in foo, at %d", repo, offset)
		}
	}
	w := t.mustResume("foo", id, 500)
	t.mustWrite(w, data[500:])
	t.mustCommit(w, data, describe(data).Digest)
	t.wantNoBlob("bar", describe(data).Digest, "after an upload to foo")
}

// Ids cannot be guessed from other ids: no two are similar, and an id that was modified is
// unknown.
//
// The last byte is not modified, because a part of what it encodes may be padding.
func sessionIDs(t *test) {
	seen := make(map[string]bool)
	var id string
	for range 50 {
		w := t.mustStart("foo", 0)
		defer w.Cancel()
		id = w.ID()
		if seen[id] {
			t.Errorf("PushBlobChunked: gave the id %q twice", id)
		}
		seen[id] = true
	}
	if t.opts.AdoptsUploadIDs {
		return
	}
	for i := 2; i <= min(len(id), 16); i++ {
		changed := []byte(id)
		changed[len(changed)-i] ^= 1
		if seen[string(changed)] {
			t.Errorf("PushBlobChunked: gave the ids %q and %q, which differ in one bit", id, changed)
			continue
		}
		err := t.tryResume("foo", string(changed), 0)
		t.wantErr(err, is(ociregistry.ErrBlobUploadUnknown), "PushBlobChunkedResume of %q when only %q was given", changed, id)
	}
}

func sessionsIndependent(t *test) {
	const n = 5
	var ids [n]string
	var data [n][]byte
	for i := range n {
		data[i] = content(uint64(i), 1000)
		ids[i] = t.mustPark("foo", data[i][:100*i])
	}
	for i := n - 1; i >= 0; i-- {
		w := t.mustResume("foo", ids[i], int64(100*i))
		t.mustWrite(w, data[i][100*i:])
		t.mustCommit(w, data[i], describe(data[i]).Digest)
	}
	for i := range n {
		t.wantBlob("foo", data[i], describe(data[i]).Digest)
	}
}

// wantLate checks that a writer cannot append. Over HTTP, the error may occur only when
// bytes are sent.
func (t *test) wantLate(w ociregistry.BlobWriter, sentinels []error, when string) {
	t.Helper()
	other := content(99, 300)
	_, err := w.Write(other)
	if err == nil && t.opts.Remote {
		_, err = w.Commit(describe(other).Digest)
	}
	t.wantErr(err, sentinels, "Write %s", when)
}

func sessionTwoWriters(t *test) {
	data := content(1, 3000)
	id := t.mustPark("foo", data[:1000])
	first, second, third := t.mustResume("foo", id, 1000), t.mustResume("foo", id, 1000), t.mustResume("foo", id, -1)
	t.mustWrite(first, data[1000:2000])
	t.must(first.Close(), "Close of an upload")
	for _, w := range []ociregistry.BlobWriter{second, third} {
		t.wantLate(w, is(ociregistry.ErrRangeInvalid), "at an offset where another writer has written")
	}
	w := t.mustResume("foo", id, 2000)
	t.mustWrite(w, data[2000:])
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

// A writer that has been overtaken cannot commit, neither what it has seen of the session nor
// what the session now has.
func sessionLateCommit(t *test) {
	if t.opts.Remote {
		return // a Commit that sends no bytes does not say at what offset
	}
	data := content(1, 2000)
	id := t.mustPark("foo", data[:1000])
	for _, d := range []ociregistry.Digest{describe(data[:1000]).Digest, describe(data).Digest} {
		first, second := t.mustResume("foo", id, -1), t.mustResume("foo", id, -1)
		t.mustWrite(first, data[first.Size():first.Size()+500])
		t.must(first.Close(), "Close of an upload")
		_, err := second.Commit(d)
		t.wantErr(err, is(ociregistry.ErrRangeInvalid), "Commit after another writer has written")
		t.wantNoRepository("foo", "after a failed Commit")
	}
	t.mustCommit(t.mustResume("foo", id, 2000), data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

// After a Write that failed, nothing can be written or committed, not even what the session
// has.
func sessionFailedWrite(t *test) {
	data := content(1, 2000)
	id := t.mustPark("foo", data[:1000])
	late, err := t.reg.PushBlobChunkedResume(t.Context(), "foo", id, 1000, 1)
	t.must(err, "PushBlobChunkedResume with a chunk size of 1")
	first := t.mustResume("foo", id, 1000)
	t.mustWrite(first, data[1000:])
	t.must(first.Close(), "Close of an upload")

	const tries = 4 // over HTTP it is sent when it is a chunk, or more
	for range tries {
		if _, err = late.Write(content(99, int64(late.ChunkSize()))); err != nil {
			break
		}
	}
	sentinels := is(ociregistry.ErrRangeInvalid)
	t.wantErr(err, sentinels, "Write at an offset where another writer has written")
	_, err = late.Write(data[1000:])
	t.wantErr(err, sentinels, "Write after a Write that failed")
	for _, d := range []ociregistry.Digest{describe(data).Digest, describe(data[:1000]).Digest} {
		_, err = late.Commit(d)
		t.wantErr(err, sentinels, "Commit after a Write that failed")
	}
	late.Close() // where there is nothing to send, that is no error
	t.wantNoRepository("foo", "after a Write that failed")

	w := t.mustResume("foo", id, 2000)
	t.mustCommit(w, data, describe(data).Digest)
	t.wantBlob("foo", data, describe(data).Digest)
}

func sessionCommitted(t *test) {
	data := content(1, 1000)
	id := t.mustPark("foo", data)
	first, second := t.mustResume("foo", id, 1000), t.mustResume("foo", id, 1000)
	t.mustCommit(first, data, describe(data).Digest)
	t.wantLate(second, is(ociregistry.ErrBlobUploadUnknown, ociregistry.ErrRangeInvalid), "after another writer has committed")
	if err := errors.Join(second.Cancel(), second.Close()); err != nil {
		t.Errorf("Cancel and Close after another writer has committed: %v", err)
	}
	t.wantBlob("foo", data, describe(data).Digest)
}

func sessionCancelled(t *test) {
	data := content(1, 1000)
	id := t.mustPark("foo", data)
	first, second := t.mustResume("foo", id, 1000), t.mustResume("foo", id, 1000)
	t.must(first.Cancel(), "Cancel")
	t.wantLate(second, is(ociregistry.ErrBlobUploadUnknown, ociregistry.ErrRangeInvalid), "after another writer has cancelled")
	_, err := second.Commit(describe(data).Digest)
	t.wantErr(err, is(ociregistry.ErrBlobUploadUnknown, ociregistry.ErrRangeInvalid), "Commit after another writer has cancelled")
	t.wantNoRepository("foo", "after an upload was cancelled")
}
