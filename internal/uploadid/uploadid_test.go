package uploadid

import (
	"io/fs"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	const id = "ABCDEFGH"
	qt.Check(t, qt.Equals(Redact("open /uploads/ABCDEFGH.state: no such file", id), "open /uploads/"+Hash(id)+".state: no such file"))
	qt.Check(t, qt.Equals(Redact("an upload", "a"), "an upload")) // no secret
	qt.Check(t, qt.Equals(Redact("an upload", ""), "an upload"))
	qt.Check(t, qt.HasLen(Hash(id), 8))
	qt.Check(t, qt.Not(qt.Equals(Hash(id), Hash(id+"A"))))
}

func TestRedactError_IsStillTheError(t *testing.T) {
	t.Parallel()
	const id = "0123456789"
	err := RedactError(&fs.PathError{Op: "open", Path: "/uploads/" + id, Err: fs.ErrPermission}, id)
	qt.Check(t, qt.ErrorIs(err, fs.ErrPermission))
	qt.Check(t, qt.ErrorMatches(err, "open /uploads/"+Hash(id)+": permission denied"))
	qt.Check(t, qt.IsNil(RedactError(nil, id)))
}
