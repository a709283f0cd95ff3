package ociauth

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// ConfigFile has the credentials that Docker and Podman keep in files, and in the
// credential helpers that these name. It implements [RepositoryConfig].
type ConfigFile struct {
	sources []*source // the first one with credentials counts
	helpers *helpers
}

// Load loads the following sources. For each registry or repository, the first one that
// has credentials counts:
//
//   - the JSON in $DOCKER_AUTH_CONFIG
//   - the file $REGISTRY_AUTH_FILE; or else $XDG_RUNTIME_DIR/containers/auth.json
//     (on Linux without that variable, /run/containers/UID/auth.json)
//   - $XDG_CONFIG_HOME/containers/auth.json, or ~/.config/containers/auth.json
//   - $DOCKER_CONFIG/config.json, or ~/.docker/config.json
//
// Docker (which uses the first and the last) and Podman (all but the first) look in the
// same order. Load skips a source that does not exist, or has nothing in it but white
// space. It returns an error for a source that cannot be read or parsed.
//
// The runner runs credential helpers. Nil means [ExecHelper]. Load reads the files once;
// helpers run when their credentials are needed.
func Load(runner HelperRunner) (*ConfigFile, error) {
	return LoadWithEnv(runner, nil)
}

// LoadWithEnv is like [Load], with env as the environment, in the form of [os.Environ].
// If runner is nil, helpers run in it, too. A nil env means the environment of the
// current process.
func LoadWithEnv(runner HelperRunner, env []string) (*ConfigFile, error) {
	if runner == nil {
		runner = ExecHelperWithEnv(env)
	}
	if env == nil {
		env = os.Environ()
	}
	c := &ConfigFile{helpers: newHelpers(runner)}
	vars := variables(env)
	if inline := vars.get("DOCKER_AUTH_CONFIG"); inline != "" {
		if err := c.add("$DOCKER_AUTH_CONFIG", []byte(inline)); err != nil {
			return nil, err
		}
	}
	for _, name := range vars.files() {
		data, err := os.ReadFile(name)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		if err := c.add(name, data); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *ConfigFile) add(name string, data []byte) error {
	s, err := parseSource(name, data)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	c.sources = append(c.sources, s)
	return nil
}

// isAbsent reports whether err says that a file does not exist, or is below something
// that is not a directory.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// EntryForRegistry implements [Config].
//
// Several keys of a source can stand for a host. The host itself takes precedence over
// https://host/v1/, that over https://host/v2/, and that over all others. Several others
// with different credentials are an error, which names them.
//
// The credential helper for the host (credHelpers), or else the one for all hosts
// (credsStore), takes precedence over the entries in the source (auths). If the helper
// for all hosts is not installed, it counts as one without credentials. Other failures
// of helpers are errors if no source has credentials.
func (c *ConfigFile) EntryForRegistry(host string) (ConfigEntry, error) {
	return c.EntryForRepository(host, "")
}

// EntryForRepository implements [RepositoryConfig]. Keys of auths that name a part of the
// registry (example.com/team/app, example.com/team), the longest first, take precedence
// over everything for the whole registry.
func (c *ConfigFile) EntryForRepository(host, repo string) (ConfigEntry, error) {
	host = normalizeHost(host)
	var failed error
	for _, s := range c.sources {
		entry, err := s.lookUp(c.helpers, host, repo)
		if err == nil && !entry.isZero() {
			return entry, nil
		}
		if failed == nil && err != nil {
			failed = fmt.Errorf("credentials for %s from %s: %w", host, s.name, err)
		}
	}
	return ConfigEntry{}, failed
}

// variables has environment variables, in the form of [os.Environ].
type variables []string

// get returns the value of a variable. The last one of that name counts.
func (vars variables) get(name string) string {
	value := ""
	for _, v := range vars {
		if n, after, ok := strings.Cut(v, "="); ok && (n == name || runtime.GOOS == "windows" && strings.EqualFold(n, name)) {
			value = after
		}
	}
	return value
}

// files returns the names of the files that may have credentials, in order of
// precedence.
func (vars variables) files() []string {
	home := vars.get("HOME")
	if runtime.GOOS == "windows" {
		home = vars.get("USERPROFILE")
	}
	primary := below(vars.get("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if primary == "" && runtime.GOOS == "linux" {
		primary = fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid())
	}
	names := []string{
		cmp.Or(vars.get("REGISTRY_AUTH_FILE"), primary),
		below(cmp.Or(vars.get("XDG_CONFIG_HOME"), below(home, ".config")), "containers", "auth.json"),
		below(cmp.Or(vars.get("DOCKER_CONFIG"), below(home, ".docker")), "config.json"),
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// below joins dir and elem. It returns "" if dir is empty.
func below(dir string, elem ...string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}
