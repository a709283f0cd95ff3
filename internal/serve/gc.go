package serve

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ocifs"
	"github.com/seed-40b21970/oci/ociregistry/ocigc"
)

const gcUsage = "Usage: ociserve gc [-dry-run] [-json] [-delay duration] [-untagged] [-dangling] [-policy file] directory"

// collectable is a registry that a program can collect.
type collectable interface {
	ocigc.Collector
	io.Closer
}

// runGC runs the program if its first argument is "gc". It returns the exit status.
func runGC(ctx context.Context, args []string, stdout, stderr io.Writer, storages []Storage) int {
	var c collection
	flags := flag.NewFlagSet("ociserve gc", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dryRun := flags.Bool("dry-run", false, "print what would be removed, and remove nothing")
	asJSON := flags.Bool("json", false, "print an object in JSON for each thing that is removed, and then one for all")
	c.define(flags, "")
	var chosen chosen
	chosen.define(flags, storages)
	var settings Settings
	if len(storages) > 0 {
		flags.BoolVar(&settings.Sparse, "sparse", false, "as for the programs that serve the storage")
		flags.BoolVar(&settings.ImmutableTags, "immutable", false, "as for the programs that serve the storage")
	}
	err := flags.Parse(args)
	var opts *ocigc.Options
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stderr, "Gc removes the garbage of a directory that ociserve serves.\n\n"+gcUsage)
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return 0
	case err == nil:
		err = chosen.checkAlone(flags)
	}
	if err == nil {
		opts, err = c.options()
	}
	if err != nil {
		fmt.Fprintf(stderr, "ociserve gc: %v\n%s\n", err, gcUsage)
		return 2
	}
	opts.DryRun = *dryRun
	var out gcPrinter = &gcText{w: stdout}
	if *asJSON {
		out = gcJSON{json.NewEncoder(stdout)}
	}
	settings.ReadOnly = opts.DryRun
	settings.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	reg, err := openCollectable(ctx, chosen, flags.Arg(0), settings)
	var report *ocigc.Report
	if err == nil {
		report, err = collectOnce(ctx, reg, opts, out, newProgressLine(stderr))
	}
	if report != nil {
		err = errors.Join(err, out.summary(report))
	}
	if err != nil {
		fmt.Fprintf(stderr, "ociserve gc: %v\n", err)
	}
	if err != nil || len(report.Problems) > 0 {
		return 1
	}
	return 0
}

// openCollectable opens the storage that was chosen, or else a directory.
func openCollectable(ctx context.Context, c chosen, dir string, s Settings) (collectable, error) {
	if c.Storage == nil {
		return openExisting(dir, &ocifs.Options{ReadOnly: s.ReadOnly, Logger: s.Logger})
	}
	opened, err := c.open(ctx, s)
	if err != nil {
		return nil, err
	}
	reg, ok := opened.Registry.(collectable)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s does not collect garbage", c.what()), opened.Close())
	}
	return reg, nil
}

// collectOnce prints what it removes, and closes the registry. It shows its progress on a
// line, which may be nil.
func collectOnce(ctx context.Context, r collectable, opts *ocigc.Options, out gcPrinter, line *progressLine) (*ocigc.Report, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	opts.Finding = func(f ocigc.Finding) {
		line.clear()
		if err := out.finding(f); err != nil {
			stop(err) // nobody would know what else is removed
		}
	}
	opts.Progress = line.show
	report, err := r.GC(ctx, opts)
	line.clear()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return report, errors.Join(err, r.Close())
}

// gcPrinter prints a report while it grows.
type gcPrinter interface {
	finding(ocigc.Finding) error
	summary(*ocigc.Report) error
}

// gcText prints a report for people: what goes, by repository.
type gcText struct {
	w          io.Writer
	repository string // of the last finding
}

func (t *gcText) finding(f ocigc.Finding) error {
	if f.Repository != t.repository {
		t.repository = f.Repository
		if _, err := fmt.Fprintln(t.w, f.Repository); err != nil {
			return err
		}
	}
	what, size := f.Tag, ""
	switch f.Kind {
	case ocigc.KindUpload:
		what, size = "session", inBytes(f.Size)
	case ocigc.KindManifest, ocigc.KindBlob:
		what, size = string(f.Digest), inBytes(f.Size)
	}
	since := ""
	if !f.Since.IsZero() {
		since = ", since " + f.Since.Local().Format(time.DateTime)
	}
	_, err := fmt.Fprintf(t.w, "  %-8s  %-71s  %10s  %s%s\n", f.Kind, what, size, f.Reason, since)
	return err
}

func (t *gcText) summary(r *ocigc.Report) error {
	for _, p := range r.Problems {
		if _, err := fmt.Fprintf(t.w, "%s was left as it is: %v\n", p.Repository, p.Err); err != nil {
			return err
		}
	}
	verb := "Removed"
	if r.DryRun {
		verb = "Would remove"
	}
	_, err := fmt.Fprintf(t.w, "%s %s (%s) from %s.\n", verb, counts(r.Summary), inBytes(r.Bytes), several(r.Repositories, "repository", "repositories"))
	return err
}

// counts returns what a summary has counted, such as "1 tag and 2 blobs".
func counts(s ocigc.Summary) string {
	var parts []string
	for _, part := range []struct {
		n        int
		one, any string
	}{
		{s.Tags, "tag", "tags"},
		{s.Manifests, "manifest", "manifests"},
		{s.Blobs, "blob", "blobs"},
		{s.Uploads, "upload session", "upload sessions"},
	} {
		if part.n > 0 {
			parts = append(parts, several(part.n, part.one, part.any))
		}
	}
	switch n := len(parts); n {
	case 0:
		return "nothing"
	case 1:
		return parts[0]
	default:
		return strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
	}
}

func several(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// inBytes returns a number of bytes, such as "1.5 MiB".
func inBytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < 4 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[unit])
}

// gcJSON prints a report for programs.
type gcJSON struct{ *json.Encoder }

func (j gcJSON) finding(f ocigc.Finding) error      { return j.Encode(f) }
func (j gcJSON) summary(report *ocigc.Report) error { return j.Encode(report) }

// progressLine is the last line of a terminal. Its methods do nothing if it is nil.
type progressLine struct {
	w      io.Writer
	last   time.Time
	filled bool
}

// newProgressLine returns nil if w is no terminal.
func newProgressLine(w io.Writer) *progressLine {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &progressLine{w: w}
		}
	}
	return nil
}

// show writes the progress, but not too often.
func (l *progressLine) show(p ocigc.Progress) {
	if l == nil || time.Since(l.last) < 100*time.Millisecond {
		return
	}
	l.clear()
	l.last, l.filled = time.Now(), true
	fmt.Fprintf(l.w, "%s, %s: %.40s", several(p.Repositories, "repository", "repositories"), counts(p.Summary), p.Repository)
}

// clear empties the line.
func (l *progressLine) clear() {
	if l != nil && l.filled {
		l.filled = false
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}
