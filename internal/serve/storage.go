package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociregistry"
)

// Storage is a kind of storage that a program has beside memory and directories.
type Storage struct {
	// Flag is the name of the flag that chooses it, such as "bucket". The value of the flag
	// says what to open, and Usage describes it.
	Flag, Usage string

	// Define, if not nil, defines flags that are for this storage alone.
	Define func(*flag.FlagSet)

	// Open opens what value says.
	Open func(ctx context.Context, value string, s Settings) (*Opened, error)
}

// Settings are what flags say of every storage.
type Settings struct {
	ReadOnly, ImmutableTags, Sparse bool
	MaxUploads                      int // negative: no limit; 0: the default
	Logger                          *slog.Logger
}

// Registry is a registry that is used until it is closed.
type Registry interface {
	ociregistry.Interface
	io.Closer
}

// Opened is a registry to serve.
type Opened struct {
	Registry

	// Redirect, if not nil, is the BlobRedirect of [ociserver.Options].
	Redirect func(ctx context.Context, repo string, digest ociregistry.Digest) (location string, expires time.Time, err error)

	// Verify, if not nil, reads everything and yields the problems that it finds, each on a line. An
	// error is the last element.
	Verify func(context.Context) iter.Seq2[fmt.Stringer, error]
}

// chosen is the storage that flags choose, if any.
type chosen struct {
	*Storage
	value string
	own   map[string]string // flags that are for one storage alone, and that storage's flag

	elsewhere map[string]bool // the flags of storages that routes choose
}

// define defines the flags of storages.
func (c *chosen) define(flags *flag.FlagSet, storages []Storage) {
	c.own = make(map[string]string)
	for i := range storages {
		s := &storages[i]
		flags.Func(s.Flag, s.Usage, func(value string) error {
			c.Storage, c.value = s, value
			return nil
		})
		if s.Define == nil {
			continue
		}
		others := make(map[string]bool)
		flags.VisitAll(func(f *flag.Flag) { others[f.Name] = true })
		s.Define(flags)
		flags.VisitAll(func(f *flag.Flag) {
			if !others[f.Name] {
				c.own[f.Name] = s.Flag
			}
		})
	}
}

// addElsewhere notes what a route chooses. Flags that are for that storage alone hold there, too.
func (c *chosen) addElsewhere(other chosen) {
	if other.Storage == nil {
		return
	}
	if c.elsewhere == nil {
		c.elsewhere = make(map[string]bool)
	}
	c.elsewhere[other.Flag] = true
}

// check checks that flags which are for one storage are not given without it.
func (c *chosen) check(flags *flag.FlagSet) (err error) {
	flags.Visit(func(f *flag.Flag) {
		if owner := c.own[f.Name]; owner != "" && !c.elsewhere[owner] && (c.Storage == nil || c.Flag != owner) {
			err = fmt.Errorf("-%s is for -%s", f.Name, owner)
		}
	})
	return err
}

// checkAlone is check for a command whose one argument is a directory, unless a storage is
// chosen.
func (c *chosen) checkAlone(flags *flag.FlagSet) error {
	switch {
	case c.Storage == nil && flags.NArg() != 1:
		return errors.New("one directory is needed")
	case c.Storage != nil && flags.NArg() != 0:
		return fmt.Errorf("-%s excludes a directory", c.Flag)
	}
	return c.check(flags)
}

// what describes what is opened, without its settings.
func (c *chosen) what() string {
	value, _, _ := strings.Cut(c.value, "?")
	return "the " + c.Flag + " " + value
}

func (c *chosen) open(ctx context.Context, s Settings) (*Opened, error) {
	return c.Storage.Open(ctx, c.value, s)
}
