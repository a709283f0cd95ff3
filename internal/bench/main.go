// Bench measures the registries of this library against others: the same work,
// through the same client. It runs on Linux.
//
//	cd internal/bench
//	go run .                          # everything, as Markdown
//	go run . -rows BlobPush           # only the rows that a regular expression matches
//	go run . -rows Library            # only client libraries, against ocimem
//	go run . -servers ocifs           # only servers whose names it matches
//	go run . -counts 10               # more samples
//	go run . -rows Bucket             # only object storage; needs versitygw in PATH
//	go run . -short                   # a minute or more: does everything work?
//	go run . -page -o RESULTS.md      # the page beside this file, in some ten minutes
//	go run . -dir /mnt/disk           # where servers on disk keep content
//	go run . -prepare 20m             # more patience with those that push slowly
//	go run . -benchfmt new.txt        # also samples for benchstat -col /server new.txt
//	go run . -json samples.json       # also samples as JSON, one on each line
//	go run . -profile profiles        # also profiles of each server's process
//
// Everything takes more than an hour, 8 GiB of memory and 8 GiB of disk.
//
// Servers are compared within their group: in memory; on disk, where a power cut
// may take what was acknowledged; on disk for sure; caches of another registry;
// over object storage; and client libraries. Some need a program in PATH, and are
// left out, with a note, where there is none: object storage versitygw, which
// internal/servers/install.sh installs, and zot's cache zot, as zot.go says.
//
// A sample is one row's work, done by one server. The server is a fresh process
// that has nothing else to do: this program, started once more. The row brings
// it into its initial state, and uses it a little; then it collects its garbage,
// gives it back to the system and forgets its peak of memory; and then the
// measured work begins. In rows that are named Cold, the server is not used
// before. Servers take turns, in rounds that each start with another one, so that
// what else the machine does hits all alike. The first round does not count, but
// with -page and -short all do. The tables show the median and the extremes of the
// rounds' ratios.
//
// In rows that are named Image, each operation is about a small image in a
// repository of its own: it pushes one into a new repository, as load generators
// do, or pulls one. In ImageMixed, one operation in four is a push.
//
// Servers on disk get a pause before the measured work, and one after it if it
// adds content: what they have put off until then counts in their CPU time and
// memory, but not in the time that clients have waited.
//
// The largest repository, and the one set of many repositories, are pushed once
// for all rows and rounds, and their servers go on from one to the next. A server
// that needs minutes for that is not measured.
//
// In rows that are named Reopen, BucketOpenGet and BucketGetFirst, a new process
// goes on with what another one was sent. The first two are about its first
// answer, and count what it does before it can be asked. BucketGetFirst does not
// count that; each operation is the first one about a repository.
//
// In rows that are named Bucket, servers have a bucket each in one store, versitygw,
// which they reach through a proxy in this process. It counts requests and bytes,
// and with delay=20ms has each request wait that long before it is answered, as
// services across a network do. These charge for requests, so the numbers of them
// matter most. Without the delay, the time is above all that of versitygw.
//
// The limits beside them are a bare net/http server (bare.go) that does the
// least that any server must, with its content where the group's is, and
// SHA-256 over the content alone, by as many goroutines as there are clients.
// Durable servers do a tenth of the operations that add content, since each of
// them waits for the disk, but for 64 clients they do all.
//
// Client and servers share the machine. Where the client is the busier of the
// two, ratios of time are nearer to 1 than the servers deserve, and ratios of
// CPU time tell more; the samples have the client's CPU time as well.
//
// A server is an entry of the table in servers.go, a row one in rows.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config is what the command line says.
type config struct {
	serve    string // be this server instead
	at       string // and keep content there
	rows     *regexp.Regexp
	page     bool // only pageRows, and no limits
	servers  *regexp.Regexp
	counts   int
	scale    scale
	dir      string
	output   string
	profile  string
	json     string
	benchfmt string
}

func parseFlags(args []string) (*config, error) {
	everything := regexp.MustCompile("")
	cfg := &config{rows: everything, servers: everything, scale: fullScale}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&cfg.serve, "serve", "", "be the named `server` (for the program's own use)")
	flags.StringVar(&cfg.at, "at", ".", "have content in the `directory or bucket` (with -serve)")
	flags.Func("rows", "measure only rows that match the `regexp`", func(s string) (err error) {
		cfg.rows, err = regexp.Compile(s)
		return err
	})
	flags.Func("servers", "measure only servers whose short names match the `regexp`", func(s string) (err error) {
		cfg.servers, err = regexp.Compile(s)
		return err
	})
	flags.IntVar(&cfg.counts, "counts", 0, "samples of each server in each row (default 6; 1 with -short)")
	short := flags.Bool("short", false, "little work: see that everything works, in seconds")
	page := flags.Bool("page", false, "the rows and the scale of RESULTS.md, in some ten minutes")
	flags.StringVar(&cfg.output, "o", "", "write the tables to the `file`, and not to standard output")
	flags.StringVar(&cfg.dir, "dir", "", "keep the content of servers below the `directory` (default that for temporary files)")
	prepare := flags.Duration("prepare", 0, "how long a server may take to get ready (default 2m)")
	flags.StringVar(&cfg.profile, "profile", "", "write CPU and memory profiles of the servers to the `directory`")
	flags.StringVar(&cfg.json, "json", "", "write the samples to the `file` as JSON")
	flags.StringVar(&cfg.benchfmt, "benchfmt", "", "write the samples to the `file` in the format of Go benchmarks")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	switch {
	case *short:
		cfg.scale = shortScale
	case *page:
		cfg.scale, cfg.page = pageScale, true
	}
	if *prepare != 0 {
		cfg.scale.prepare = *prepare
	}
	if cfg.counts == 0 {
		cfg.counts = cfg.scale.counts
	}
	if cfg.counts < 1 {
		return nil, errors.New("-counts must be positive")
	}
	return cfg, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	cfg, err := parseFlags(args)
	if err != nil {
		return err
	}
	if cfg.serve != "" {
		s, err := serverNamed(cfg.serve)
		if err != nil {
			return err
		}
		return s.serve(cfg.at, os.Stdin, out)
	}
	if cfg.profile != "" {
		if err := os.MkdirAll(cfg.profile, 0o777); err != nil {
			return err
		}
	}
	var selected []row
	for _, r := range rows(cfg.scale) {
		if cfg.rows.MatchString(r.name) && (!cfg.page || pageRows.MatchString(r.name)) {
			selected = append(selected, r)
		}
	}
	if len(selected) == 0 {
		return errors.New("-rows matches no row")
	}
	selected, missing := withoutStore(selected)
	if len(selected) == 0 {
		return missing
	}
	res, err := measureAll(ctx, cfg, selected)
	if err != nil {
		return err
	}
	res.args = args
	if missing != nil {
		res.note("nothing over object storage: " + missing.Error())
	}
	if err := writeTo(cfg.json, res.writeJSON); err != nil {
		return err
	}
	if err := writeTo(cfg.benchfmt, res.writeBenchmarks); err != nil {
		return err
	}
	if cfg.output != "" {
		return writeTo(cfg.output, res.writeMarkdown)
	}
	return res.writeMarkdown(out)
}

// withoutStore leaves out the rows that need a store, if there can be none, and
// returns why.
func withoutStore(rows []row) ([]row, error) {
	isBucket := func(r row) bool { return isBucketRow(r.name) }
	if !slices.ContainsFunc(rows, isBucket) {
		return rows, nil
	}
	missing := haveStore()
	if missing != nil {
		fmt.Fprintf(os.Stderr, "bench: nothing over object storage: %v\n", missing)
		rows = slices.DeleteFunc(rows, isBucket)
	}
	return rows, missing
}

// measureAll samples all servers in all rows, and tells its progress on
// standard error. The first round is thrown away: whoever is first to use much
// memory may have to wait until the machine has found it.
func measureAll(ctx context.Context, cfg *config, rows []row) (_ *results, err error) {
	res := newResults(cfg.counts, cfg.dir)
	f := newFleet(cfg.dir)
	defer func() {
		if endErr := f.close(); err == nil {
			err = endErr
		}
	}()
	started := time.Now()
	for i, r := range rows {
		fmt.Fprintf(os.Stderr, "%6.0fs  row %d of %d: %s\n", time.Since(started).Seconds(), i+1, len(rows), r.name)
		if err := measureRow(ctx, cfg, newMeasurer(r, cfg, f), res); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// measureRow samples all servers in a row. Each of them is as often the first of a
// round as any other: what comes first may be slower for that alone.
func measureRow(ctx context.Context, cfg *config, m *measurer, res *results) error {
	var these []server
	for _, s := range servers {
		if !cfg.servers.MatchString(s.name) || !s.suits(m.name) || cfg.page && s.limit {
			continue
		}
		if s.missing() {
			res.note(fmt.Sprintf("not %s, as there is no %s in PATH", s.title, s.program))
			continue
		}
		these = append(these, s)
	}
	for round := 1 - cfg.scale.discard; round <= cfg.counts; round++ {
		for j := range these {
			s := these[(round+j)%len(these)]
			if errors.Is(res.fails[cell{m.name, s.name}], errTooSlow) {
				continue
			}
			sample, err := m.measure(ctx, s, round)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil && s.against == "" && !errors.Is(err, errTooSlow) {
				return fmt.Errorf("%s: %s: %w", m.name, s.name, err)
			}
			if round > 0 || errors.Is(err, errTooSlow) {
				res.add(m.name, s, sample, err)
			}
		}
	}
	return nil
}

// writeTo has a file written, unless its name is empty.
func writeTo(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
