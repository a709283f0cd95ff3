package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed-40b21970/oci/ociregistry/ocicopy"
)

// rules is the content of the file of -mirror. The documentation of the program describes
// the format.
type rules struct {
	Interval duration `json:"interval"`
	Sources  []source `json:"sources"`
}

// source is a registry and the rules for its repositories.
type source struct {
	Registry remote         `json:"registry"`
	OnDemand bool           `json:"onDemand"`
	Stall    bound          `json:"stall"`
	Rules    []ocicopy.Rule `json:"rules"`
}

// registry returns the registry of a source, which is the origin of the cache if the source
// does not name one.
func (s source) registry(origin remote) remote {
	if s.Registry.host == "" {
		return origin
	}
	return s.Registry
}

// duration is a time in the form "30m".
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err == nil && parsed < time.Second {
		err = fmt.Errorf("%q is less than a second", text)
	}
	*d = duration(parsed)
	return err
}

// bound is a limit for a duration. A negative value means no limit.
type bound time.Duration

func (b *bound) UnmarshalText(text []byte) error {
	if parsed, err := time.ParseDuration(string(text)); err == nil && parsed < 0 {
		*b = bound(parsed)
		return nil
	}
	return (*duration)(b).UnmarshalText(text)
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *remote) UnmarshalText(text []byte) error {
	if err := r.set(string(text)); err != nil {
		return fmt.Errorf("registry %q: %w", text, err)
	}
	return nil
}

// readRules reads a file of rules. The rules themselves are checked by ocicopy.
func readRules(path string) (r rules, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, fmt.Errorf("-mirror: %w", err)
	}
	defer f.Close()
	in := json.NewDecoder(f)
	in.DisallowUnknownFields()
	if err = in.Decode(&r); err == nil {
		if _, more := in.Token(); more != io.EOF {
			err = errors.New("there is more than one JSON value")
		}
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return r, fmt.Errorf("-mirror %s: %w", path, err)
	}
	return r, nil
}

func (r rules) check() error {
	if len(r.Sources) == 0 {
		return errors.New("there are no sources")
	}
	for i, s := range r.Sources {
		if len(s.Rules) == 0 {
			return fmt.Errorf("source %d has no rules", i+1)
		}
	}
	return nil
}
