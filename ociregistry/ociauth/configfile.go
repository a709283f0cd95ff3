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

// ConfigFile has credentials as Docker and Podman keep them: in files, and in
// credential helpers that the files name. It is a [RepositoryConfig].
type ConfigFile struct {
	sources []*source // the first that has credentials counts
	helpers *helpers
}

// Load loads what is there of the following. For each registry or repository, the
// first of them that has credentials counts:
//
//   - the JSON in $DOCKER_AUTH_CONFIG
//   - the file $REGISTRY_AUTH_FILE; or else $XDG_RUNTIME_DIR/containers/auth.json
//     (on Linux without that variable, /run/containers/UID/auth.json)
//   - $XDG_CONFIG_HOME/containers/auth.json, or ~/.config/containers/auth.json
//   - $DOCKER_CONFIG/config.json, or ~/.docker/config.json
//
// That is the order in which Docker (the first and the last) and Podman (all but
// the first) look. What is not there, or has nothing in it but white space, is
// passed over; what cannot be read or parsed is an error.
//
// Credential helpers are run by runner, or by [ExecHelper] if it is nil. The files
// are read once; helpers are run when their credentials are wanted.
func Load(runner HelperRunner) (*ConfigFile, error) {
	return LoadWithEnv(runner, nil)
}

// LoadWithEnv is [Load] with other environment variables than this process's, in
// the form of [os.Environ]. Unless runner is given, helpers get them too. If env is
// nil, they are this process's.
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

// isAbsent reports whether err is that of a file that is not there, or is below
// something that is not a directory.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// EntryForRegistry implements [Config].
//
// In each source, of the keys that stand for the host, the host itself goes before
// https://host/v1/, that before https://host/v2/, and that before all others; several
// others with different credentials are an error, which names them.
//
// A credential helper for the host (credHelpers), else the one for
// all (credsStore), goes before what the source has itself (auths). A helper for
// all that is not installed is passed over, as if it had nothing. Other failures
// of helpers are reported if there are no credentials elsewhere.
func (c *ConfigFile) EntryForRegistry(host string) (ConfigEntry, error) {
	return c.EntryForRepository(host, "")
}

// EntryForRepository implements [RepositoryConfig]. Keys of auths that name a part
// of the registry (example.com/team/app, example.com/team), the longest first, go
// before all that is for the whole registry.
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

// variables are environment variables, in the form of [os.Environ].
type variables []string

// get returns the value of a variable, of which the last counts.
func (vars variables) get(name string) string {
	value := ""
	for _, v := range vars {
		if n, after, ok := strings.Cut(v, "="); ok && (n == name || runtime.GOOS == "windows" && strings.EqualFold(n, name)) {
			value = after
		}
	}
	return value
}

// files returns the names of the files that may have credentials.
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

// below returns the path of something in dir, or "" if there is no dir.
func below(dir string, elem ...string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}
