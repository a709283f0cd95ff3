package httpfield_test

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/httpfield"
)

func TestToken_EndsAtWhatIsNoTokenByte(t *testing.T) {
	t.Parallel()
	const punctuation = "!#$%&'*+-.^_`|~"
	for c := range 256 {
		text := string([]byte{byte(c)})
		is := c < 128 && (strings.Contains(punctuation, text) ||
			strings.Contains("0123456789abcdefghijklmnopqrstuvwxyz", strings.ToLower(text)))
		qt.Check(t, qt.Equals(httpfield.IsToken(text), is), qt.Commentf("%q", text))
		qt.Check(t, qt.Equals(httpfield.IsToken("a"+text), is), qt.Commentf("%q", text))
		n := 1
		if is {
			n = 3
		}
		qt.Check(t, qt.Equals(httpfield.TokenLen("a"+text+"b"), n), qt.Commentf("%q", text))
	}
	qt.Check(t, qt.IsFalse(httpfield.IsToken("")))
	qt.Check(t, qt.Equals(httpfield.TokenLen(""), 0))
}
