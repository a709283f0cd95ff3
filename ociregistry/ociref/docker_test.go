package ociref

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestParseDocker(t *testing.T) {
	t.Parallel()
	imageID := strings.Repeat("0123456789abcdef", 4)
	tests := []struct {
		s, want string
	}{
		// Docker Hub is the default host.
		{"ubuntu", "docker.io/library/ubuntu:latest"},
		{"ubuntu:24.04", "docker.io/library/ubuntu:24.04"},
		{"user/app", "docker.io/user/app:latest"},
		{"user/app:v1", "docker.io/user/app:v1"},
		{"a/b/c", "docker.io/a/b/c:latest"},
		{"library/ubuntu", "docker.io/library/ubuntu:latest"},
		{"docker.io/ubuntu", "docker.io/library/ubuntu:latest"},
		{"docker.io/user/app", "docker.io/user/app:latest"},
		{"docker.io/library/ubuntu:24.04", "docker.io/library/ubuntu:24.04"},
		{"index.docker.io/ubuntu", "docker.io/library/ubuntu:latest"},
		{"index.docker.io/user/app:v1", "docker.io/user/app:v1"},

		// So it is for a name alone, whatever it looks like.
		{"localhost", "docker.io/library/localhost:latest"},
		{"localhost:5000", "docker.io/library/localhost:5000"},
		{"docker.io", "docker.io/library/docker.io:latest"},
		{"192.0.2.1", "docker.io/library/192.0.2.1:latest"},
		{"foo_bar.com", "docker.io/library/foo_bar.com:latest"},

		// Other hosts have no library.
		{"localhost/foo", "localhost/foo:latest"},
		{"localhost:5000/foo", "localhost:5000/foo:latest"},
		{"localhost:5000/foo:v1", "localhost:5000/foo:v1"},
		{"registry:80/foo", "registry:80/foo:latest"},
		{"example.com/foo", "example.com/foo:latest"},
		{"LOCAL/foo", "LOCAL/foo:latest"},
		{"192.0.2.1/foo", "192.0.2.1/foo:latest"},
		{"[::1]:5000/foo", "[::1]:5000/foo:latest"},
		{"docker.io:443/foo", "docker.io:443/foo:latest"},
		{"registry-1.docker.io/foo", "registry-1.docker.io/foo:latest"},

		// The tag defaults to latest only without a digest.
		{"ubuntu@" + string(digest256), "docker.io/library/ubuntu@" + string(digest256)},
		{"ubuntu:24.04@" + string(digest256), "docker.io/library/ubuntu:24.04@" + string(digest256)},
		{"localhost/foo@" + string(digest512), "localhost/foo@" + string(digest512)},

		// What looks like an image ID is a name in any context but alone.
		{"docker.io/" + imageID, "docker.io/library/" + imageID + ":latest"},
		{imageID + ":v1", "docker.io/library/" + imageID + ":v1"},
		{imageID[1:], "docker.io/library/" + imageID[1:] + ":latest"},
	}
	for _, test := range tests {
		t.Run(test.s, func(t *testing.T) {
			ref, err := ParseDocker(test.s)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(ref.String(), test.want))
			checkParsesBack(t, ref)
		})
	}
}

func TestParseDockerError(t *testing.T) {
	t.Parallel()
	imageID := strings.Repeat("0123456789abcdef", 4)
	tests := []struct {
		s, want string // want is what follows the reference
	}{
		{"", `repository "" is empty`},
		{imageID, `64 hexadecimal digits are an image ID, not a repository`},
		{"Ubuntu", `repository "Ubuntu" has an upper-case letter`},
		{"user/App", `repository "user/App" has an upper-case letter`},
		{"foo_bar.com/app", `host "foo_bar.com" ` + hostProblem},
		{"https://example.com/app", `host "https:" ` + hostProblem},
		{"docker.io/", `repository "" is empty`},
		{"ubuntu:", `tag "" is empty`},
		{"ubuntu@sha256:abc", `digest "sha256:abc" does not have 64 lower-case hexadecimal digits after its algorithm`},

		// The limit of a name's length holds for the name in full.
		{strings.Repeat("a", 248), `repository ` + quote("library/"+strings.Repeat("a", 248)) + ` is longer than 255 bytes`},
	}
	for _, test := range tests {
		t.Run(test.s, func(t *testing.T) {
			ref, err := ParseDocker(test.s)
			qt.Assert(t, qt.IsNotNil(err))
			qt.Check(t, qt.Equals(err.Error(), "invalid reference "+quote(test.s)+": "+test.want))
			qt.Check(t, qt.Equals(ref, Reference{}))
		})
	}
	_, err := ParseDocker(strings.Repeat("a", 247))
	qt.Check(t, qt.IsNil(err))
}

func FuzzParseDocker(f *testing.F) {
	for _, test := range references {
		f.Add(test.s)
	}
	for _, s := range []string{"docker.io/ubuntu", "index.docker.io/a/b", "foo_bar.com/app"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseDocker(s)
		if err != nil {
			qt.Assert(t, qt.Equals(ref, Reference{}))
			return
		}
		checkValid(t, ref)
		checkParsesBack(t, ref)
		qt.Assert(t, qt.IsTrue(ref.Tag != "" || ref.Digest != ""))
		qt.Assert(t, qt.Not(qt.Equals(ref.Host, dockerIndexHost)))
	})
}

// checkParsesBack checks that ref means the same to Parse, and that it can't be
// normalized further.
func checkParsesBack(t *testing.T, ref Reference) {
	t.Helper()
	for _, parse := range []func(string) (Reference, error){Parse, ParseDocker} {
		again, err := parse(ref.String())
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(again, ref))
	}
}
