package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// writeMarkdown writes the tables: for each server of this library and each
// quantity, a table of the servers that are compared with it.
func (r *results) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	r.writeHead(&b)
	for _, ours := range servers {
		if ours.against != "" || len(r.tried(append(comparedWith(ours), ours))) == 0 {
			continue
		}
		for _, m := range ours.metrics() {
			r.writeTable(&b, ours, m)
		}
		if ours.storage == inBucket {
			r.writeRequests(&b, ours)
		}
		r.writeBehind(&b, ours)
	}
	r.writeFails(&b)
	b.WriteString(`
How to read this. The second column is ours, for one operation: the median of
the samples, and how far the furthest of them is from it. The others are ratios,
theirs ÷ ours: above 1, ours is the faster or smaller one. Each round of samples
gives one ratio; shown are their median and (the least..the greatest), unless
all are the same. Bare servers and SHA-256 are limits, not registries: what the
work costs at the least, if each body is kept by itself. Server CPU is user and
system time of the server's process, its garbage collector included, and on disk
also what it has put off until after the measured work; peak memory is what was
resident at most (VmHWM), with stored content and the program itself.

Rows named Reopen are the first answer of a new process, with what it does before
it can be asked; so is BucketOpenGet. BucketGetFirst is without that. Over object
storage, servers reach a store through a proxy that counts requests, and at
delay=20ms has each of them wait that long beside what it takes. COPY is a PUT, and
LIST is a GET of a list. Requests of clients that were redirected count, too.

With "*", the server has in memory what ours writes to files: it has forgotten it
when it is started again. "–" is nothing to measure, "n/a" what a server cannot
do, "too slow to prepare" what it would take too long to get ready for.
`)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *results) writeTable(b *strings.Builder, ours server, m metric) {
	others := r.tried(comparedWith(ours))
	fmt.Fprintf(b, "\n## %s: %s\n\n| row | %s |", ours.group, m.title, ours.title)
	for _, s := range others {
		fmt.Fprintf(b, " %s |", s.title)
	}
	fmt.Fprintf(b, "\n| --- | --: |%s\n", strings.Repeat(" --: |", len(others)))
	for _, row := range r.rows {
		if !ours.suits(row) {
			continue
		}
		fmt.Fprintf(b, "| %s | %s |", row, r.ownCell(cell{row, ours.name}, m))
		for _, s := range others {
			fmt.Fprintf(b, " %s |", r.ratioCell(row, s, ours, m))
		}
		b.WriteByte('\n')
	}
}

// writeRequests writes a table of the requests to the store, by what they are. It
// has the last sample: they are the same in each, or nearly.
func (r *results) writeRequests(b *strings.Builder, ours server) {
	group := append([]server{ours}, r.tried(comparedWith(ours))...)
	fmt.Fprintf(b, "\n## %s: kinds of requests to the store\n\n| row |", ours.group)
	for _, s := range group {
		fmt.Fprintf(b, " %s |", s.title)
	}
	fmt.Fprintf(b, "\n| --- |%s\n", strings.Repeat(" --- |", len(group)))
	for _, row := range r.rows {
		if !ours.suits(row) {
			continue
		}
		fmt.Fprintf(b, "| %s |", row)
		for _, s := range group {
			fmt.Fprintf(b, " %s |", r.requestsCell(cell{row, s.name}))
		}
		b.WriteByte('\n')
	}
}

func (r *results) requestsCell(at cell) string {
	samples := r.samples[at]
	if len(samples) == 0 {
		return "–"
	}
	last := samples[len(samples)-1]
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(last.Requests)) {
		n := strconv.FormatFloat(float64(last.Requests[kind])/float64(last.Ops), 'f', 1, 64)
		kinds = append(kinds, strings.TrimSuffix(n, ".0")+" "+kind)
	}
	return cmp.Or(strings.Join(kinds, ", "), "none")
}

// tried returns those of some servers with which anything was tried.
func (r *results) tried(some []server) []server {
	return slices.DeleteFunc(some, func(s server) bool {
		return !slices.ContainsFunc(r.rows, func(row string) bool {
			at := cell{row, s.name}
			return r.samples[at] != nil || r.fails[at] != nil
		})
	})
}

func comparedWith(ours server) []server {
	var others []server
	for _, s := range servers {
		if s.against == ours.name {
			others = append(others, s)
		}
	}
	return others
}

func (r *results) ownCell(at cell, m metric) string {
	if err := r.fails[at]; err != nil {
		return failed(err)
	}
	v, ok := r.values(at, m)
	if !ok {
		return "–"
	}
	away := max(v.max-v.median, v.median-v.min) / v.median
	return fmt.Sprintf("%s ±%.0f%%", m.format(v.median), 100*away)
}

func (r *results) ratioCell(row string, s, ours server, m metric) string {
	at := cell{row, s.name}
	if err := r.fails[at]; err != nil {
		return failed(err)
	}
	v, ok := r.ratios(at, ours.name, m)
	if !ok {
		return "–"
	}
	if s.forgets(row) {
		return formatRatio(v) + "*"
	}
	return formatRatio(v)
}

// failed is what stands in a cell that has no number.
func failed(err error) string {
	if errors.Is(err, errTooSlow) {
		return errTooSlow.Error()
	}
	return "n/a"
}

func formatRatio(v summary) string {
	if v.min == v.max {
		return fmt.Sprintf("%.2f", v.median)
	}
	return fmt.Sprintf("%.2f (%.2f..%.2f)", v.median, v.min, v.max)
}

// writeBehind says where a registry is ahead of ours, doing the same. One round
// says nothing.
func (r *results) writeBehind(b *strings.Builder, ours server) {
	if r.counts == 1 {
		return
	}
	var behind []string
	for _, m := range ours.metrics() {
		for _, row := range r.rows {
			for _, s := range comparedWith(ours) {
				if s.limit || s.forgets(row) {
					continue
				}
				v, ok := r.ratios(cell{row, s.name}, ours.name, m)
				if ok && v.median < 0.995 {
					behind = append(behind, fmt.Sprintf("- %s, %s, %s: %s\n", m.title, row, s.title, formatRatio(v)))
				}
			}
		}
	}
	if len(behind) == 0 {
		fmt.Fprintf(b, "\n%s is behind in no row.\n", ours.title)
		return
	}
	fmt.Fprintf(b, "\n%s is behind in:\n\n%s", ours.title, strings.Join(behind, ""))
}

// writeFails says why a cell has no number.
func (r *results) writeFails(b *strings.Builder) {
	for _, row := range r.rows {
		for _, s := range servers {
			if err := r.fails[cell{row, s.name}]; err != nil {
				fmt.Fprintf(b, "\n%s: %s, %s: %v\n", failed(err), row, s.title, err)
			}
		}
	}
}

func formatTime(ns float64) string {
	for _, unit := range []struct {
		name string
		ns   float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= unit.ns {
			return threeDigits(ns/unit.ns) + " " + unit.name
		}
	}
	return threeDigits(ns) + " ns"
}

func threeDigits(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func formatSize(bytes float64) string { return fmt.Sprintf("%.1f MiB", bytes/(1<<20)) }

func formatBytes(bytes float64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%.1f KiB", bytes/(1<<10))
	}
	return formatSize(bytes)
}

// filesystem returns the name of the filesystem that a directory is on: on some
// of them, a sync costs nothing.
func filesystem(dir string) string {
	var info syscall.Statfs_t
	if err := syscall.Statfs(dir, &info); err != nil {
		return "an unknown filesystem"
	}
	switch uint32(info.Type) { // statfs(2)
	case 0xef53:
		return "ext4"
	case 0x58465342:
		return "xfs"
	case 0x9123683e:
		return "btrfs"
	case 0x794c7630:
		return "overlayfs"
	case 0x01021994:
		return "tmpfs"
	}
	return fmt.Sprintf("filesystem %#x", info.Type)
}

// cpuModel returns the name of the processor, as the system has it.
func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
