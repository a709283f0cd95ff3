package wire

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestParseWarnings(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][]string{
		``:                                     nil,
		`299 - "old"`:                          {"old"},
		`299 - "a \"b\" \\", 299 - "c"`:        {`a "b" \`, "c"},
		`299 - "", 299 - "after an empty one"`: {"after an empty one"},
		`199 - "another code"`:                 nil,
		`299 agent "another agent"`:            nil,
		`299 - "a", 199 - "b", 299 - "c"`:      {"a"},
		`299 - "not closed`:                    nil,
		`299 - "not closed\`:                   nil,
		`299 - not quoted`:                     nil,
		`299 - `:                               nil,
	} {
		qt.Check(t, qt.DeepEquals(slices.Collect(ParseWarnings(value)), want), qt.Commentf("%s", value))
	}
	for range ParseWarnings(`299 - "a", 299 - "b"`) {
		break
	}
}

func FuzzParseWarnings(f *testing.F) {
	for _, s := range []string{`299 - "old"`, `299 - "a \"b\" \\", 299 - "c"`, `299 - "`, `299 - ""`, `299 - "\`, `199 - "x"`} {
		f.Add(s)
	}
	quote := strings.NewReplacer(`"`, `\"`, `\`, `\\`)
	f.Fuzz(func(t *testing.T, value string) {
		var again []string
		texts := slices.Collect(ParseWarnings(value))
		size := 0
		for _, text := range texts {
			size += len(text)
			again = append(again, `299 - "`+quote.Replace(text)+`"`)
		}
		qt.Assert(t, qt.IsTrue(size <= len(value)))
		qt.Assert(t, qt.IsFalse(slices.Contains(texts, "")))
		qt.Assert(t, qt.DeepEquals(slices.Collect(ParseWarnings(strings.Join(again, ", "))), texts))
	})
}
