package serve

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// A negative stall is no bound, as in the library.
func TestRules_StallIsNegativeOrAtLeastASecond(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		``:                 0,
		`"stall": "30s", `: 30 * time.Second,
		`"stall": "-1s", `: -time.Second,
		`"stall": "-1", `:  0, // an error
		`"stall": "0", `:   0,
		`"stall": "1ms", `: 0,
	} {
		file := filepath.Join(t.TempDir(), "rules.json")
		err := os.WriteFile(file, []byte(`{"sources": [{`+text+`"registry": "registry.test", "rules": [{"repositories": "a"}]}]}`), 0o666)
		qt.Assert(t, qt.IsNil(err))
		r, err := readRules(file)
		qt.Check(t, qt.Equals(err == nil, text == "" || want != 0), qt.Commentf("%s: %v", text, err))
		if err == nil {
			qt.Check(t, qt.Equals(time.Duration(r.Sources[0].Stall), want))
		}
	}
}
