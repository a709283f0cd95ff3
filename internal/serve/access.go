package serve

import (
	"flag"
	"log/slog"

	"github.com/seed-40b21970/oci/ociserver"
)

// Access is how a program decides who may do what.
type Access struct {
	// Define defines the flags for it.
	Define func(*flag.FlagSet)

	// Open returns what decides, for the API and the pages. It is nil if the flags do not ask
	// for anything: everyone may do everything then.
	Open func(*slog.Logger) (ociserver.AuthorizeFunc, error)
}

func (a *Access) define(flags *flag.FlagSet) {
	if a != nil {
		a.Define(flags)
	}
}

func (a *Access) open(logger *slog.Logger) (ociserver.AuthorizeFunc, error) {
	if a == nil {
		return nil, nil
	}
	return a.Open(logger)
}
