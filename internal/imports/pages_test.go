package imports

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// Of pages, the test looks at what is in backquotes, at indented lines, and at
// the targets of links.
var (
	quoted  = regexp.MustCompile("`([^`\n]+)`")
	indent  = regexp.MustCompile(`(?m)^ {4,}(.+)$`)
	linked  = regexp.MustCompile(`(?:\]\(|^\[[^\]]+\]: )([^)\s]+)`)
	aFile   = regexp.MustCompile(`^\w[.\w/-]*(\.(go|md|txt|sh)|/)$`)
	command = regexp.MustCompile(`go test (?:-C )?((?:\S+ )+?)-(?:run|bench|fuzz) (?:'([^']+)'|(\S+))`)
)

// mentioned returns the files, and the commands that run tests, in a page.
func mentioned(page string) (files, commands []string) {
	for _, m := range quoted.FindAllStringSubmatch(page, -1) {
		if aFile.MatchString(m[1]) && strings.Contains(m[1], "/") {
			files = append(files, m[1])
		}
		commands = append(commands, m[1])
	}
	for _, m := range indent.FindAllStringSubmatch(page, -1) {
		commands = append(commands, m[1])
	}
	for _, line := range strings.Split(page, "\n") {
		for _, m := range linked.FindAllStringSubmatch(line, -1) {
			if target, _, _ := strings.Cut(m[1], "#"); target != "" && !strings.Contains(target, ":") {
				files = append(files, target)
			}
		}
	}
	return files, commands
}

func TestPages_NameFilesAndTestsThatThereAre(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	pages, err := filepath.Glob(filepath.Join(root, "*.md"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Not(qt.HasLen(pages, 0)))
	for _, page := range pages {
		text, err := os.ReadFile(page)
		qt.Assert(t, qt.IsNil(err))
		files, commands := mentioned(string(text))
		for _, file := range files {
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(file))); err != nil {
				t.Errorf("%s names %s: %v", page, file, err)
			}
		}
		for _, c := range commands {
			checkCommand(t, page, root, strings.ReplaceAll(c, `\|`, "|"))
		}
	}
}

// checkCommand checks that a command which runs tests finds one in each directory.
func checkCommand(t *testing.T, page, root, c string) {
	m := command.FindStringSubmatch(c)
	if m == nil {
		return
	}
	pattern, err := regexp.Compile(m[2] + m[3])
	qt.Assert(t, qt.IsNil(err))
	for _, dir := range strings.Fields(m[1]) {
		if pattern.String() == "^$" || strings.Contains(dir, "...") || strings.ToUpper(dir) == dir {
			continue
		}
		if !hasTest(filepath.Join(root, dir), pattern) {
			t.Errorf("%s has the command %q, for which there is no test in %s", page, c, dir)
		}
	}
}

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w*)\(`)

func hasTest(dir string, pattern *regexp.Regexp) bool {
	files, _ := fs.Glob(os.DirFS(dir), "*_test.go")
	for _, file := range files {
		text, _ := os.ReadFile(filepath.Join(dir, file))
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			if pattern.MatchString(m[1]) {
				return true
			}
		}
	}
	return false
}

func TestMentioned_FindsWhatIsToBeChecked(t *testing.T) {
	t.Parallel()
	files, commands := mentioned("See `a/b.go`, `x.go`, [c](d/e.md#f) and [g](#h).\n\n    go test ./i -run J\n\n[k]: https://l/m.go\n[n]: o.md\n")
	qt.Check(t, qt.DeepEquals(files, []string{"a/b.go", "d/e.md", "o.md"}))
	qt.Check(t, qt.DeepEquals(commands, []string{"a/b.go", "x.go", "go test ./i -run J"}))
	qt.Check(t, qt.DeepEquals(command.FindStringSubmatch("X=1 go test -C a/b ./c -run 'D|E$' -v")[1:3], []string{"a/b ./c ", "D|E$"}))
	qt.Check(t, qt.IsFalse(hasTest(".", regexp.MustCompile("^TestNothing$"))))
	qt.Check(t, qt.IsTrue(hasTest(".", regexp.MustCompile("TestMentioned"))))
}
