package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"time"
)

// results are all samples of a run.
type results struct {
	args    []string // of the command
	began   time.Time
	notes   []string // what was left out
	counts  int
	dir     string   // where content was kept, or empty
	rows    []string // as they came
	samples map[cell][]*sample
	fails   map[cell]error
}

// cell is a place in a table.
type cell struct{ row, server string }

func newResults(counts int, dir string) *results {
	return &results{began: time.Now(), counts: counts, dir: dir, samples: make(map[cell][]*sample), fails: make(map[cell]error)}
}

// add adds a sample, or why there is none. There need not be a reason.
func (r *results) add(row string, s server, sample *sample, err error) {
	if !slices.Contains(r.rows, row) {
		r.rows = append(r.rows, row)
	}
	at := cell{row, s.name}
	if err != nil {
		r.fails[at] = err
		return
	}
	if sample != nil {
		r.samples[at] = append(r.samples[at], sample)
	}
}

// note tells of something that was not measured.
func (r *results) note(text string) {
	if !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

// metric is a quantity of a sample.
type metric struct {
	title  string
	value  func(*sample) float64
	format func(float64) string
}

var metrics = []metric{
	{"time", func(s *sample) float64 { return float64(s.Wall) / float64(s.Ops) }, formatTime},
	{"server CPU", func(s *sample) float64 { return float64(s.CPU) / float64(s.Ops) }, formatTime},
	{"peak memory", func(s *sample) float64 { return float64(s.Peak) }, formatSize},
}

// libraryMetrics are those of the client's process.
var libraryMetrics = []metric{
	metrics[0],
	{"client CPU", func(s *sample) float64 { return float64(s.ClientCPU) / float64(s.Ops) }, formatTime},
	{"client allocations", func(s *sample) float64 { return float64(s.ClientAllocs) / float64(s.Ops) }, threeDigits},
}

// bucketMetrics are those of servers over object storage.
var bucketMetrics = append([]metric{
	{"requests to the store", func(s *sample) float64 { return float64(s.requests()) / float64(s.Ops) }, threeDigits},
	{"bytes to and from the store", func(s *sample) float64 { return float64(s.StoreBytes) / float64(s.Ops) }, formatBytes},
}, metrics...)

// requests returns the number of requests to the store.
func (s *sample) requests() int {
	sum := 0
	for _, n := range s.Requests {
		sum += n
	}
	return sum
}

// metrics returns what is of interest of a server, or of the library with it.
func (s *server) metrics() []metric {
	switch {
	case s.library != nil:
		return libraryMetrics
	case s.storage == inBucket:
		return bucketMetrics
	}
	return metrics
}

// summary is what there is to say of several values.
type summary struct{ median, min, max float64 }

func summarize(values []float64) summary {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return summary{
		median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		min:    sorted[0],
		max:    sorted[n-1],
	}
}

// values summarizes a quantity in a cell.
func (r *results) values(at cell, m metric) (_ summary, ok bool) {
	var values []float64
	for _, s := range r.samples[at] {
		values = append(values, m.value(s))
	}
	if len(values) == 0 || slices.Max(values) == 0 {
		return summary{}, false
	}
	return summarize(values), true
}

// ratios summarizes a quantity in a cell, divided by that of another server in
// the same row and round.
func (r *results) ratios(at cell, other string, m metric) (_ summary, ok bool) {
	var ratios []float64
	for _, theirs := range r.samples[at] {
		for _, ours := range r.samples[cell{at.row, other}] {
			if ours.Round == theirs.Round {
				ratios = append(ratios, m.value(theirs)/m.value(ours))
			}
		}
	}
	if len(ratios) == 0 || slices.Max(ratios) == 0 || math.IsInf(slices.Max(ratios), 0) {
		return summary{}, false
	}
	return summarize(ratios), true
}

// writeJSON writes the samples, one on each line.
func (r *results) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	return r.each(func(s *sample) error { return enc.Encode(s) })
}

// writeBenchmarks writes the samples as Go's benchmarks are written.
func (r *results) writeBenchmarks(w io.Writer) error {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\ncpu: %s\n", runtime.GOOS, runtime.GOARCH, cpuModel())
	return r.each(func(s *sample) error {
		ops := float64(s.Ops)
		_, err := fmt.Fprintf(w, "Benchmark%s/server=%s-%d %d %.0f ns/op %.0f server-cpu-ns/op %.0f client-cpu-ns/op %.0f B/op %.0f allocs/op %d peak-RSS-B\n",
			s.Row, s.Server, runtime.GOMAXPROCS(0), s.Ops,
			float64(s.Wall)/ops, float64(s.CPU)/ops, float64(s.ClientCPU)/ops,
			float64(s.Bytes)/ops, float64(s.Allocs)/ops, s.Peak)
		return err
	})
}

// each calls f with all samples: by row, and by round, and in the order of the
// servers.
func (r *results) each(f func(*sample) error) error {
	for _, row := range r.rows {
		for round := 1; round <= r.counts; round++ {
			for _, s := range servers {
				for _, sample := range r.samples[cell{row, s.name}] {
					if sample.Round == round {
						if err := f(sample); err != nil {
							return err
						}
					}
				}
			}
		}
	}
	return nil
}
