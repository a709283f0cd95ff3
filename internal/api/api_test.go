// Package api has no code. Its test compares the exported names of all packages with
// api.txt, so that none comes, goes or changes unnoticed.
//
// The listing is made of the source text alone: methods that a type has by embedding
// an unexported one are not in it.
package api

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-quicktest/qt"
)

var update = flag.Bool("update", false, "write api.txt")

const (
	golden = "api.txt"
	advice = `The exported API is not what api.txt says. If that is meant, run

	go test ./internal/api -update

and have CHANGELOG.md say it to users. A line that went (-) can break their programs: it
needs a reason and, where there is one, the way to move on.`
)

func TestAPI_IsTheOneThatIsWrittenDown(t *testing.T) {
	t.Parallel()
	l, err := list(os.DirFS(filepath.Join("..", "..")))
	qt.Assert(t, qt.IsNil(err))
	got := l.lines()
	if *update {
		qt.Assert(t, qt.IsNil(os.WriteFile(golden, []byte(strings.Join(got, "\n")+"\n"), 0o666)))
		return
	}
	data, err := os.ReadFile(golden)
	qt.Assert(t, qt.IsNil(err))
	want := strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n"), "\n")
	if diff := compare(want, got); diff != nil {
		t.Errorf("%s\n\n%s", advice, strings.Join(diff, "\n"))
	}
}

// compare returns, in order, the lines in which two lists differ: with a - those that
// only want has, with a + those that only got has.
func compare(want, got []string) (diff []string) {
	for _, line := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(want, got)))) {
		switch wanted, there := slices.Contains(want, line), slices.Contains(got, line); {
		case !there:
			diff = append(diff, "- "+line)
		case !wanted:
			diff = append(diff, "+ "+line)
		}
	}
	return diff
}

const sample = `package pkg

const Limit = 10 << 20

const (
	First Kind = iota
	Second
	third
)

var (
	ErrSample = errors.New("sample")
	Flag      bool
	hidden    = third
)

type (
	Kind  int
	Alias = int
)

type Options struct {
	*Kind
	Limit  int
	hidden int
	Hook   func(name string) bool
}

func (o *Options) Set(name string, values ...int) {}
func (o *Options) set()                           {}

type Sealed interface {
	fmt.Stringer
	Do(n int) error
	seal()
}

type secret struct{ Name string }

func (secret) Method() {}

func Map[K comparable, V any](m map[K]V, f func(k K, v V) error) (n int, err error) { return 0, nil }

func unexported() {}
`

func TestList_HasWhatUsersCanName(t *testing.T) {
	t.Parallel()
	l, err := list(fstest.MapFS{
		"a/pkg/sample.go":          {Data: []byte(sample)},
		"a/pkg/sample_test.go":     {Data: []byte("package pkg\n\nfunc Test() {}\n")},
		"a/pkg/internal/hidden.go": {Data: []byte("package internal\n\nfunc Hidden() {}\n")},
		"cmd/main.go":              {Data: []byte("package main\n\nfunc Main() {}\n")},
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(l.lines(), []string{
		"a/pkg: const First Kind = iota",
		"a/pkg: const Limit = 10 << 20",
		"a/pkg: const Second Kind",
		"a/pkg: func Map[K comparable, V any](map[K]V, func(K, V) error) (int, error)",
		"a/pkg: method (*Options) Set(string, ...int)",
		"a/pkg: type Alias = int",
		"a/pkg: type Kind int",
		"a/pkg: type Options struct",
		"a/pkg: type Options struct, Hook func(string) bool",
		"a/pkg: type Options struct, Limit int",
		"a/pkg: type Options struct, embeds *Kind",
		"a/pkg: type Sealed interface",
		"a/pkg: type Sealed interface, Do(int) error",
		"a/pkg: type Sealed interface, embeds fmt.Stringer",
		"a/pkg: type Sealed interface, unexported methods",
		"a/pkg: var ErrSample",
		"a/pkg: var Flag bool",
	}))
}

func TestCompare_ShowsWhatWentAndCame(t *testing.T) {
	t.Parallel()
	qt.Check(t, qt.IsNil(compare([]string{"a", "b"}, []string{"a", "b"})))
	qt.Check(t, qt.DeepEquals(compare([]string{"c", "a"}, []string{"b", "c"}), []string{"- a", "+ b"}))
}
