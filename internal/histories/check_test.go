package histories

import (
	"bytes"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/go-quicktest/qt"
)

// TestCheck says of short histories whether they are linearizable. All are of the
// repository x.
func TestCheck(t *testing.T) {
	t.Parallel()
	put := func(call, ret time.Duration, status int, manifest, tag string, tags ...string) *Event {
		return &Event{Call: call, Return: ret, Op: Op{Do: putManifest, Manifest: manifest, Tag: tag, Tags: tags}, Outcome: Outcome{Status: status}}
	}
	get := func(call, ret time.Duration, tag, got string) *Event {
		ev := &Event{Call: call, Return: ret, Op: Op{Do: getTag, Tag: tag}, Outcome: Outcome{Status: 200, Got: got}}
		if got == "" {
			ev.Outcome = Outcome{Status: 404, Code: "MANIFEST_UNKNOWN"}
		}
		return ev
	}
	list := func(call, ret time.Duration, tags ...string) *Event {
		return &Event{Call: call, Return: ret, Op: Op{Do: listTags}, Outcome: Outcome{Status: 200, List: tags}}
	}
	blob := func(call, ret time.Duration, do, blob string, status int, code string) *Event {
		return &Event{Call: call, Return: ret, Op: Op{Do: do, Blob: blob}, Outcome: Outcome{Status: status, Code: code, Size: -1}}
	}
	opened := func() *Event {
		return &Event{Call: 1, Return: 2, Op: Op{Do: openUpload, Session: 1}, Outcome: Outcome{Status: 202}}
	}
	send := func(call, ret time.Duration, chunk string, at int64, status int, size int64) *Event {
		p := &piece{chunk, 0, chunkSizes[chunk[0]]}
		ev := &Event{Call: call, Return: ret, Op: Op{Do: sendChunk, Session: 1, Piece: p, Offset: at}, Outcome: Outcome{Status: status, Size: size}}
		if status == 416 {
			ev.Code = "RANGE_INVALID"
		}
		return ev
	}
	ask := func(call, ret time.Duration, size int64) *Event {
		return &Event{Call: call, Return: ret, Op: Op{Do: askUpload, Session: 1}, Outcome: Outcome{Status: 204, Size: size}}
	}
	end := func(call, ret time.Duration, do, blob string, status int, code string) *Event {
		return &Event{Call: call, Return: ret, Op: Op{Do: do, Session: 1, Blob: blob, Offset: -1}, Outcome: Outcome{Status: status, Code: code, Size: -1}}
	}
	whole := func(call, ret time.Duration, blob string, status int) *Event {
		ev := end(call, ret, commitUpload, blob, status, "")
		ev.Piece, ev.Offset = &piece{blob, 0, chunkSizes[blob[0]]}, 0
		return ev
	}
	anywhere := func(ev *Event) *Event {
		ev.Offset = -1
		return ev
	}
	tests := []struct {
		name   string
		events []*Event
		want   bool
	}{
		{"a read after a push", []*Event{put(1, 2, 201, "free-1", "t1"), get(3, 4, "t1", "free-1")}, true},
		{"a read that misses a push", []*Event{put(1, 2, 201, "free-1", "t1"), get(3, 4, "t1", "")}, false},
		{"new, then old, during a push", []*Event{
			put(1, 2, 201, "free-1", "t1"), put(3, 9, 201, "free-2", "t1"), get(4, 5, "t1", "free-2"), get(6, 7, "t1", "free-1")}, false},
		{"a push without an answer, done", []*Event{put(1, 2, 201, "free-1", "t1"), put(3, 9, 0, "free-2", "t1"), get(5, 6, "t1", "free-2")}, true},
		{"a push without an answer, not done", []*Event{put(1, 2, 201, "free-1", "t1"), put(3, 9, 0, "free-2", "t1"), get(5, 6, "t1", "free-1")}, true},
		{"a push without an answer, done after the death", []*Event{
			put(1, 2, 201, "free-1", "t1"), put(3, 9, 0, "free-2", "t1"), get(10, 11, "t1", "free-1"), get(12, 13, "t1", "free-2")}, false},
		{"tags of one push, one after the other", []*Event{
			put(1, 2, 201, "free-1", "t3"), put(3, 9, 201, "free-2", "t1", "t2"), get(4, 5, "t1", "free-2"), get(6, 7, "t2", "")}, false},
		{"a list of what comes and goes", []*Event{
			put(1, 9, 201, "free-1", "t1"), put(1, 2, 201, "free-1", "t2"), list(3, 4, "t2"), list(5, 6, "t1", "t2")}, true},
		{"a list that misses a tag", []*Event{put(1, 2, 201, "free-1", "t1"), list(3, 4)}, false},
		{"a manifest without its blobs", []*Event{put(1, 2, 201, "image-a", "t1")}, false},
		{"a blob in use is deleted", []*Event{
			blob(1, 2, pushBlob, "a", 201, ""), put(3, 4, 201, "image-a", "t1"), blob(5, 6, deleteBlob, "a", 202, "")}, false},
		{"a blob in use is kept", []*Event{
			blob(1, 2, pushBlob, "a", 201, ""), put(3, 4, 201, "image-a", "t1"), blob(5, 6, deleteBlob, "a", 405, "DENIED")}, true},
		{"a blob is deleted twice while its push makes sure that it is there", []*Event{
			blob(1, 9, pushBlob, "a", 201, ""), blob(2, 3, deleteBlob, "a", 202, ""), blob(4, 5, deleteBlob, "a", 202, ""), blob(10, 11, headBlob, "a", 200, "")}, true},
		{"a blob comes back after its push", []*Event{
			blob(1, 2, pushBlob, "a", 201, ""), blob(3, 4, deleteBlob, "a", 202, ""), blob(5, 6, headBlob, "a", 200, "")}, false},

		{"an upload", []*Event{opened(), send(3, 4, "a", 0, 202, 3000), send(5, 6, "b", -1, 202, 23_000), end(7, 8, commitUpload, "ab", 201, ""), blob(9, 10, headBlob, "ab", 200, "")}, true},
		{"an upload of another blob", []*Event{opened(), send(3, 4, "a", 0, 202, 3000), end(5, 6, commitUpload, "b", 201, "")}, false},
		{"a part of a chunk without an answer", []*Event{opened(), send(3, 9, "a", 0, 0, -1), ask(4, 5, 1000), ask(6, 7, 3000)}, true},
		{"a chunk that goes away", []*Event{opened(), send(3, 4, "a", 0, 202, 3000), ask(5, 6, 1000)}, false},
		{"two chunks at one offset", []*Event{opened(), send(3, 9, "a", 0, 202, 3000), send(3, 9, "b", 0, 202, 20_000)}, false},
		{"one of two chunks at one offset", []*Event{opened(), send(3, 9, "a", 0, 202, 3000), send(3, 9, "b", 0, 416, 3000)}, true},
		{"a session that ended is unknown", []*Event{opened(), send(3, 4, "a", 0, 202, 3000), end(5, 6, cancelUpload, "", 204, ""), ask(7, 8, 3000)}, false},
		{"a session that never had anything begins anew elsewhere", []*Event{opened(), end(5, 6, cancelUpload, "", 204, ""), ask(7, 8, 0)}, true},
		{"a commit of all, while the session gets bytes elsewhere", []*Event{
			opened(), whole(3, 9, "a", 201), send(4, 5, "b", 0, 202, 20_000), blob(6, 7, headBlob, "a", 404, "NAME_UNKNOWN"), blob(10, 11, headBlob, "a", 200, ""), ask(12, 13, 20_000)}, true},
		{"a commit of all, after the session got bytes", []*Event{opened(), send(3, 4, "b", 0, 202, 20_000), whole(5, 6, "a", 201)}, false},
		{"a commit of all that nobody sees", []*Event{opened(), whole(3, 4, "a", 201), blob(5, 6, headBlob, "a", 404, "NAME_UNKNOWN")}, false},
		{"a commit without an answer, of which the blob is there and the session too", []*Event{
			opened(), send(3, 4, "a", 0, 202, 3000), end(5, 9, commitUpload, "a", 0, ""), blob(10, 11, headBlob, "a", 200, ""), end(12, 13, commitUpload, "a", 201, "")}, true},
		{"a part of what a commit brings, and where it is", []*Event{
			opened(), ask(4, 5, 1000), anywhere(whole(3, 9, "a", 201)), blob(10, 11, headBlob, "a", 200, "")}, true},
		{"two commits at once", []*Event{
			opened(), send(3, 4, "a", 0, 202, 3000), end(5, 8, commitUpload, "a", 201, ""), end(6, 9, commitUpload, "a", 201, ""), blob(10, 11, headBlob, "a", 200, "")}, true},
		{"two commits one after the other", []*Event{
			opened(), send(3, 4, "a", 0, 202, 3000), end(5, 6, commitUpload, "a", 201, ""), end(7, 8, commitUpload, "a", 201, "")}, false},
		{"two commits at once, of which only one tells the truth", []*Event{
			opened(), send(3, 4, "a", 0, 202, 3000), end(5, 8, commitUpload, "a", 201, ""), end(6, 9, commitUpload, "b", 201, "")}, false},
		{"a chunk that is refused during a commit", []*Event{
			opened(), send(3, 4, "a", 0, 202, 3000), end(5, 9, commitUpload, "a", 201, ""), end(6, 7, cancelUpload, "", 416, "BLOB_UPLOAD_INVALID"), end(10, 11, askUpload, "", 404, "BLOB_UPLOAD_UNKNOWN")}, true},
		{"a chunk that is refused after a commit as if that went on", []*Event{
			opened(), send(3, 4, "a", 0, 202, 3000), end(5, 6, commitUpload, "a", 201, ""), end(7, 8, cancelUpload, "", 416, "BLOB_UPLOAD_INVALID")}, false},
		{"a commit without an answer that goes on, and ends", []*Event{
			opened(), send(3, 4, "a", 0, 202, 3000), end(5, 20, commitUpload, "a", 0, ""), end(6, 7, cancelUpload, "", 416, "BLOB_UPLOAD_INVALID"), end(8, 9, askUpload, "", 404, "BLOB_UPLOAD_UNKNOWN")}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for i, ev := range test.events {
				ev.Repository, ev.Client = "x", i
			}
			var text bytes.Buffer
			qt.Assert(t, qt.IsNil(writeHistory(&text, test.events)))
			events, err := readHistory(bytes.NewReader(text.Bytes()))
			qt.Assert(t, qt.IsNil(err))
			v := checkRepo("x", events, maxSteps)
			qt.Assert(t, qt.Equals(v == nil, test.want), qt.Commentf("%s", text.String()))
			plain := porcupine.CheckOperations(model, plainOperations("x", events))
			qt.Assert(t, qt.Equals(plain, test.want)) // the two ways to check agree
			if v != nil {
				_, err := v.save(t.TempDir())
				qt.Assert(t, qt.IsNil(err))
			}
		})
	}
}
