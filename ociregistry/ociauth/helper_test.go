package ociauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// helperMode is the variable that makes the test program behave like a credential helper.
const helperMode = "OCIAUTH_TEST_HELPER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperMode); mode != "" {
		os.Exit(helper(mode))
	}
	os.Exit(m.Run())
}

func helper(mode string) int {
	if mode == "child" {
		for _, err := os.Stat(os.Getenv("FILE")); err == nil; _, err = os.Stat(os.Getenv("FILE")) {
			time.Sleep(10 * time.Millisecond)
		}
		return 0
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil || len(os.Args) != 2 || os.Args[1] != "get" {
		return 3
	}
	server := string(input)
	if file, ok := strings.CutPrefix(mode, "leaves a child until this is gone: "); ok {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), helperMode+"=child", "FILE="+file)
		child.Stdout = os.Stdout
		if child.Start() != nil {
			return 4
		}
		mode = "user"
	}
	fmt.Fprintln(os.Stderr, "SECRET on stderr")
	switch mode {
	case "user":
		fmt.Printf(`{"ServerURL":%q,"Username":"user","Secret":"of %s"}`, server, server)
	case "identity":
		fmt.Print(`{"Username":"<token>","Secret":"refresh"}`)
	case "empty":
		fmt.Print(`{}`)
	case "silent":
	case "blank":
		fmt.Print("\ufeff \r\n")
	case "marked":
		fmt.Print("\ufeff" + `{"Username":"user","Secret":"s"}` + "\r\n")
	case "not found":
		fmt.Println("credentials not found in native keychain")
		return 1
	case "fails":
		fmt.Println("SECRET on stdout")
		return 1
	case "no JSON":
		fmt.Print(`{"Secret":SECRET}`)
	case "too much":
		fmt.Print(strings.Repeat("SECRET", 20_000))
	case "hangs":
		time.Sleep(time.Hour) // which, unlike select {}, is no deadlock
	}
	return 0
}

// installHelper puts the test program into the PATH as docker-credential-test.
func installHelper(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	qt.Assert(t, qt.IsNil(err))
	dir := t.TempDir()
	name := filepath.Join(dir, "docker-credential-test")
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if err := os.Symlink(self, name); err != nil {
		t.Skipf("no links here: %v", err)
	}
	t.Setenv("PATH", dir)
}

func TestExecHelperReadsAnswers(t *testing.T) {
	installHelper(t)
	tests := []struct {
		mode string
		want ConfigEntry
		err  string
	}{
		{"user", ConfigEntry{Username: "user", Password: "of registry.test"}, ""},
		{"identity", ConfigEntry{RefreshToken: "refresh"}, ""},
		{"empty", ConfigEntry{}, ""},
		{"silent", ConfigEntry{}, ""},
		{"blank", ConfigEntry{}, ""},
		{"marked", ConfigEntry{Username: "user", Password: "s"}, ""},
		{"not found", ConfigEntry{}, ""},
		{"fails", ConfigEntry{}, `docker-credential-test: exit status 1`},
		{"no JSON", ConfigEntry{}, `docker-credential-test: the answer is not the JSON of credentials`},
		{"too much", ConfigEntry{}, `docker-credential-test: the answer is larger than 65536 bytes`},
	}
	for _, test := range tests {
		env := append(os.Environ(), helperMode+"="+test.mode)
		entry, err := ExecHelperWithEnv(env)("test", "registry.test")
		qt.Check(t, qt.Equals(entry, test.want), qt.Commentf("%s", test.mode))
		if test.err == "" {
			qt.Check(t, qt.IsNil(err))
		} else {
			qt.Check(t, qt.ErrorMatches(err, test.err))
		}
	}

	t.Setenv(helperMode, "user")
	entry, err := ExecHelper("test", "https://index.docker.io/v1/")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(entry.Password, "of https://index.docker.io/v1/"))
	for _, name := range []string{"absent", "", "../test", `..\test`, "/test"} {
		_, err := ExecHelper(name, "registry.test")
		qt.Check(t, qt.ErrorIs(err, ErrHelperNotFound), qt.Commentf("%s", name))
	}
}

// The environment that was given is used for both, files and helpers.
func TestLoadWithEnvGivesHelpersItsEnvironment(t *testing.T) {
	installHelper(t)
	env := append(os.Environ(), helperMode+"=user", `DOCKER_AUTH_CONFIG={"credsStore":"test"}`)
	c, err := LoadWithEnv(nil, env)
	qt.Assert(t, qt.IsNil(err))
	entry, err := c.EntryForRegistry("registry.test")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(entry.Password, "of registry.test"))
}

// The answer of a helper counts although a child that it leaves, such as an agent, holds its output.
func TestHelperMayLeaveAChild(t *testing.T) {
	installHelper(t)
	delay := helperDelay
	defer func() { helperDelay = delay }()
	held := filepath.Join(t.TempDir(), "held")
	qt.Assert(t, qt.IsNil(os.WriteFile(held, nil, 0o666)))
	defer os.Remove(held)
	t.Setenv(helperMode, "leaves a child until this is gone: "+held)
	var entry ConfigEntry
	var err error
	for helperDelay = 10 * time.Millisecond; helperDelay < time.Minute; helperDelay *= 10 { // a slow machine needs more
		if entry, err = ExecHelper("test", "registry.test"); err == nil && entry.Password != "" {
			break
		}
	}
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(entry.Password, "of registry.test"))
}

func TestSlowHelperIsStopped(t *testing.T) {
	installHelper(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	env := append(os.Environ(), helperMode+"=hangs")
	_, err := execHelper(ctx, env, "test", "registry.test")
	qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
	qt.Check(t, qt.ErrorMatches(err, "docker-credential-test did not answer in time: .*"))
	qt.Check(t, qt.IsFalse(errors.Is(err, ErrHelperNotFound)))
}
