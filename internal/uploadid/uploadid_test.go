package uploadid

import (
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
