package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestPage_HasRowsOfEachKind checks that no pattern of the page's rows has lost its
// row to a change of names or of the scale.
func TestPage_HasRowsOfEachKind(t *testing.T) {
	t.Parallel()
	table := rows(pageScale)
	for _, pattern := range pagePatterns {
		one := regexp.MustCompile("^(" + pattern + ")$")
		found := 0
		for _, r := range table {
			if one.MatchString(r.name) {
				qt.Check(t, qt.IsTrue(pageRows.MatchString(r.name)))
				found++
			}
		}
		qt.Check(t, qt.IsTrue(found > 0), qt.Commentf(pattern))
	}
}

func TestPage_SaysHowItCameAbout(t *testing.T) {
	t.Parallel()
	res := newResults(3, "")
	res.args = []string{"-page", "-o", "RESULTS.md"}
	var b strings.Builder
	res.writeHead(&b)
	for _, want := range []string{
		"Measured by `go run . -page -o RESULTS.md` in internal/bench, on 2",
		" cores, GOMAXPROCS ", "- samples of each: 3\n",
	} {
		qt.Check(t, qt.StringContains(b.String(), want))
	}
}

func TestRequestsCell(t *testing.T) {
	t.Parallel()
	res := newResults(1, "")
	s := servers[0]
	res.add("Row", s, &sample{Row: "Row", Server: s.name, Ops: 4, Requests: map[string]int{"PUT": 8, "GET": 2}}, nil)
	res.add("Other", s, &sample{Row: "Other", Server: s.name, Ops: 4}, nil)
	for row, want := range map[string]string{"Row": "0.5 GET, 2 PUT", "Other": "none", "No": "–"} {
		qt.Check(t, qt.Equals(res.requestsCell(cell{row, s.name}), want))
	}
}
