package ociweb

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/seed-40b21970/oci/ociregistry"
)

// maxText is the maximum number of bytes that a page shows of one text of a manifest.
const maxText = 1000

// clean returns a text in a form that can be shown: bounded, and without characters that
// cannot be seen or that change how what follows is read.
func clean(s string) string { return cleanLine(clip(s, maxText)) }

// cleanLine is clean for a text that is bounded otherwise.
func cleanLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return unicode.ReplacementChar
		}
		return r // of bytes that are not UTF-8, already the replacement character
	}, s)
}

// clip returns s, or its beginning and an ellipsis if it has more than n bytes.
func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// sentence returns a message as a sentence.
func sentence(s string) string {
	if s = clean(s); s == "" {
		return ""
	}
	first, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + strings.TrimSuffix(s[n:], ".") + "."
}

// size returns a number of bytes in units of a thousand, as registries and disks count.
func size(n int64) string {
	if n < 0 {
		return "unknown"
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10) + "\u00a0B"
	}
	f, unit := float64(n), 0
	for f >= 999.5 && unit < len("kMGTPE") {
		f, unit = f/1000, unit+1
	}
	digits := 0
	if f < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + "\u00a0" + "kMGTPE"[unit-1:unit] + "B"
}

// number returns n with its thousands apart.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count returns n and the word for that many.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// short returns the beginning of a digest, by which people know it.
func short(d ociregistry.Digest) string {
	algorithm, hex, ok := strings.Cut(string(d), ":")
	if !ok || algorithm != "sha256" {
		return clip(clean(string(d)), 19)
	}
	return hex[:min(12, len(hex))]
}

// moment is a time, or none.
type moment struct{ At, Machine, Ago string }

// moment returns t for people, as of now.
func (x *exchange) moment(t time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	t = t.UTC()
	return moment{t.Format("2 January 2006, 15:04 UTC"), t.Format(time.RFC3339), ago(x.now.Sub(t))}
}

// ago returns a duration in its largest unit.
func ago(d time.Duration) string {
	const day = 24 * time.Hour
	units := []struct {
		from, unit time.Duration
		name       string
	}{
		{730 * day, 365 * day, "years"}, {60 * day, 30 * day, "months"}, {14 * day, 7 * day, "weeks"},
		{2 * day, day, "days"}, {2 * time.Hour, time.Hour, "hours"}, {2 * time.Minute, time.Minute, "minutes"},
	}
	for _, u := range units {
		if d >= u.from {
			return fmt.Sprintf("%d\u00a0%s ago", d/u.unit, u.name)
		}
	}
	if d < -time.Minute {
		return "in the future"
	}
	return "just now"
}
