package wire

import (
	"iter"
	"strings"
)

// ParseWarnings returns the texts in the value of a Warning header, a list of
// `299 - "text"` (specification, section "Warnings"). A warning with another code or
// agent, or with a date, ends the list.
func ParseWarnings(value string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for {
			quoted, ok := strings.CutPrefix(strings.TrimLeft(value, " \t,"), "299 - ")
			if !ok || !strings.HasPrefix(quoted, `"`) {
				return
			}
			text, rest, ok := cutQuoted(quoted)
			if !ok || text != "" && !yield(text) {
				return
			}
			value = rest
		}
	}
}
