package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

const verifyUsage = "Usage: ociserve verify [-repair] [-sparse] directory"

// runVerify runs the program if its first argument is "verify". It returns the exit status.
func runVerify(ctx context.Context, args []string, stdout, stderr io.Writer, storages []Storage) int {
	flags := flag.NewFlagSet("ociserve verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	repair := flags.Bool("repair", false, "move damaged content to .ocifs/damaged in the directory")
	sparse := flags.Bool("sparse", false, "do not report missing blobs that manifests name, as there are in a cache")
	var chosen chosen
	chosen.define(flags, storages)
	immutable := false
	if len(storages) > 0 {
		flags.BoolVar(&immutable, "immutable", false, "as for the programs that serve the storage")
	}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stderr, "Verify checks the content of a directory that ociserve serves.\n\n"+verifyUsage)
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return 0
	case err == nil:
		err = chosen.checkAlone(flags)
	}
	if err == nil && chosen.Storage != nil && *repair {
		err = errors.New("-repair is for a directory")
	}
	if err != nil {
		fmt.Fprintf(stderr, "ociserve verify: %v\n%s\n", err, verifyUsage)
		return 2
	}
	logger := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	left := 0
	if chosen.Storage != nil {
		left, err = verifyStorage(ctx, chosen, stdout, Settings{ReadOnly: true, ImmutableTags: immutable, Sparse: *sparse, Logger: logger})
	} else {
		left, err = verify(ctx, flags.Arg(0), stdout, &ocifs.Options{ReadOnly: !*repair, Sparse: *sparse, Logger: logger})
	}
	if err != nil {
		fmt.Fprintf(stderr, "ociserve verify: %v\n", err)
	}
	if err != nil || left > 0 {
		return 1
	}
	return 0
}

// verify prints the problems of a directory, and repairs them if opts is not read-only. It
// returns the number of problems that are left.
func verify(ctx context.Context, dir string, stdout io.Writer, opts *ocifs.Options) (left int, err error) {
	r, err := openExisting(dir, opts)
	if err != nil {
		return 0, err
	}
	find := r.Repair
	if opts.ReadOnly {
		find = r.Verify
	}
	all := 0
	for p, problemErr := range find(ctx) {
		if err = problemErr; err != nil {
			break
		}
		if all++; !p.Repaired {
			left++
		}
		fmt.Fprintln(stdout, p)
	}
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err == nil && !opts.ReadOnly && all > 0 {
		fmt.Fprintf(stdout, "%d repaired, %d left.\n", all-left, left)
	} else if err == nil {
		fmt.Fprintln(stdout, found(left))
	}
	return left, err
}

// verifyStorage prints the problems of the storage that was chosen, and returns their number.
func verifyStorage(ctx context.Context, c chosen, stdout io.Writer, s Settings) (n int, err error) {
	opened, err := c.open(ctx, s)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	if opened.Verify == nil {
		return 0, fmt.Errorf("%s cannot be verified", c.what())
	}
	for p, err := range opened.Verify(ctx) {
		if err != nil {
			return n, err
		}
		n++
		fmt.Fprintln(stdout, p)
	}
	fmt.Fprintln(stdout, found(n))
	return n, nil
}

// found says how many problems there are.
func found(n int) string {
	if n == 0 {
		return "Nothing is wrong."
	}
	return fmt.Sprintf("%d found.", n)
}

// openExisting opens a directory, which must exist, like -layout if it is a layout itself,
// and like -dir otherwise.
func openExisting(dir string, opts *ocifs.Options) (*ocifs.Registry, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"oci-layout", "index.json"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			repo := filepath.Base(dir)
			if !ociref.IsValidRepository(repo) {
				repo = "layout"
			}
			return ocifs.NewLayout(dir, repo, opts)
		}
	}
	return ocifs.New(dir, opts)
}
