package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

const verifyUsage = "Usage: ociserve verify [-repair] [-sparse] directory"

// runVerify runs the program if its first argument is "verify". It returns the exit status.
func runVerify(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("ociserve verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	repair := flags.Bool("repair", false, "move damaged content to .ocifs/damaged in the directory")
	sparse := flags.Bool("sparse", false, "do not report missing blobs that manifests name, as there are in a cache")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stderr, "Verify checks the content of a directory that ociserve serves.\n\n"+verifyUsage)
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return 0
	case err == nil && flags.NArg() != 1:
		err = errors.New("one directory is needed")
	}
	if err != nil {
		fmt.Fprintf(stderr, "ociserve verify: %v\n%s\n", err, verifyUsage)
		return 2
	}
	logger := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	opts := ocifs.Options{ReadOnly: !*repair, Sparse: *sparse, Logger: logger}
	left, err := verify(ctx, flags.Arg(0), stdout, &opts)
	if err != nil {
		fmt.Fprintf(stderr, "ociserve verify: %v\n", err)
		return 1
	}
	if left > 0 {
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
	repaired, left, err := report(stdout, find(ctx))
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return left, err
	}
	switch {
	case repaired+left == 0:
		fmt.Fprintln(stdout, "Nothing is wrong.")
	case !opts.ReadOnly:
		fmt.Fprintf(stdout, "%d repaired, %d left.\n", repaired, left)
	default:
		fmt.Fprintf(stdout, "%d found.\n", left)
	}
	return left, nil
}

// report prints problems, and counts those that were repaired and those that are left.
func report(w io.Writer, problems iter.Seq2[ocifs.Problem, error]) (repaired, left int, err error) {
	for p, err := range problems {
		if err != nil {
			return repaired, left, err
		}
		if p.Repaired {
			repaired++
		} else {
			left++
		}
		fmt.Fprintln(w, p)
	}
	return repaired, left, nil
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
