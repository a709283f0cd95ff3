package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http"

	"github.com/seed-40b21970/oci/internal/serve"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/htpasswd"
	"github.com/seed-40b21970/oci/ociserver"
)

// access lets in the users of a file.
func access() *serve.Access {
	var file string
	var anonymousPull bool
	return &serve.Access{
		Define: func(flags *flag.FlagSet) {
			flags.StringVar(&file, "htpasswd", "", "let only the users in the `file` in, which htpasswd -B writes; it is read again when it changes")
			flags.BoolVar(&anonymousPull, "anonymous-pull", false, "let clients without a user pull and list (with -htpasswd)")
		},
		Open: func(logger *slog.Logger) (ociserver.AuthorizeFunc, error) {
			switch {
			case file == "" && anonymousPull:
				return nil, errors.New("-anonymous-pull is for -htpasswd")
			case file == "":
				return nil, nil
			}
			users, err := htpasswd.Open(file, logger)
			if err != nil {
				return nil, err
			}
			return authorizer{users.Check, anonymousPull}.authorize, nil
		},
	}
}

// authorizer lets users do everything, and others nothing or read.
type authorizer struct {
	check         func(ctx context.Context, user, password string) (bool, error)
	anonymousPull bool
}

// authorize is the Authorize of [ociserver.Options].
func (a authorizer) authorize(req *http.Request, want []ociserver.Access) (func(ociserver.Access) bool, error) {
	user, password, basic := req.BasicAuth()
	// Podman and skopeo send an empty user and password when they have none.
	if req.Header.Get("Authorization") == "" || basic && user == "" && password == "" {
		return a.anonymous(want)
	}
	if !basic {
		return nil, ociregistry.ErrUnauthorized
	}
	ok, err := a.check(req.Context(), user, password)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ociregistry.ErrUnauthorized
	}
	return func(ociserver.Access) bool { return true }, nil
}

// anonymous decides for a client that says of no user. It refuses the ping, as clients learn
// from its answer alone that they should send a password if they have one.
func (a authorizer) anonymous(want []ociserver.Access) (func(ociserver.Access) bool, error) {
	may := func(access ociserver.Access) bool {
		return a.anonymousPull && (access.Action == ociserver.ActionPull || access.Action == ociserver.ActionList)
	}
	allowed := len(want) > 0
	for _, access := range want {
		allowed = allowed && may(access)
	}
	if !allowed {
		return nil, ociregistry.ErrUnauthorized
	}
	return may, nil
}
