package usage

import (
	"bytes"
	"encoding/json"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ocifs/internal/disk"
	"github.com/seed-40b21970/oci/ociregistry"
)

// What is known is in a file, from which the next process learns which repositories it need
// not count: those whose files are what they were. Nothing relies on it. It is not synced, and
// may be deleted; of several processes, the last one wins.

// saveEvery is how long what is known is in memory alone, if the registry is used.
const saveEvery = 10 * time.Minute

// saved is what the file has of a repository, in a line.
type saved struct {
	Name  string
	Bytes int64
	Stamp stamp
}

func (r *Reporter) file() string { return filepath.Join(r.Work.Dir, "usage") }

// The first line is the checksum of the rest.
func checksum(rest string) string {
	return strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(rest))), 16)
}

// load reads what is known. If the file is damaged, nothing is.
func (r *Reporter) load() {
	r.saved = time.Now()
	text, err := disk.ReadFirst(r.Work.FS, r.file(), -1)
	if err != nil {
		r.Log.Warn("what repositories had cannot be read", "error", err)
		return
	}
	sum, rest, _ := strings.Cut(text, "\n")
	if sum != checksum(rest) {
		return
	}
	for line := range strings.Lines(rest) {
		var s saved
		if json.Unmarshal([]byte(line), &s) == nil && ociregistry.CheckRepository(s.Name) == nil && s.Bytes >= 0 && s.Stamp.isThere() {
			r.Tally.Set(s.Name, s.Bytes)
			r.counts[s.Name] = &count{stamp: s.Stamp, final: true}
		}
	}
}

// save writes down what is known.
func (r *Reporter) save() {
	r.saved = time.Now()
	if r.ReadOnly {
		return
	}
	if err := r.write(); err != nil {
		r.Log.Warn("what repositories have cannot be written down", "error", err)
	}
}

func (r *Reporter) write() error {
	doubtful := make(map[string]bool)
	for _, name := range r.Tally.Doubtful() {
		doubtful[name] = true
		defer r.Tally.Doubt(name)
	}
	alone := !r.Work.HasOthers()
	var rest bytes.Buffer
	lines := json.NewEncoder(&rest)
	for _, name := range r.Tally.Names() {
		if doubtful[name] {
			continue
		}
		n, stamp, ok := r.settled(name, alone)
		if !ok {
			continue
		}
		if err := lines.Encode(saved{name, n, stamp}); err != nil {
			return err
		}
	}
	if err := disk.MakeDirs(r.Work.FS, r.Work.Dir); err != nil {
		return err
	}
	name, err := r.Work.CreateText([]byte(checksum(rest.String())+"\n"+rest.String()), disk.FilePerm)
	if err != nil {
		return err
	}
	if err := r.Work.FS.Rename(name, r.file()); err != nil {
		r.Work.FS.Remove(name)
		return err
	}
	return nil
}

// settled returns the bytes of a repository and the stamp of its files, if they belong
// together. Those that this process has changed have another stamp now, which is only right if
// nobody else has.
func (r *Reporter) settled(name string, alone bool) (int64, stamp, bool) {
	n, changed := r.Tally.Of(name)
	if c := r.counts[name]; c != nil && !changed {
		return n, c.stamp, c.final
	}
	repo := r.Repos.Use(name)
	defer repo.Release()
	begun, quiet := repo.Quiet()
	stamp, err := r.stamp(repo.Dir)
	if err != nil || !alone || !quiet || !stamp.isFinal(time.Now()) {
		return 0, stamp, false
	}
	n, _ = r.Tally.Of(name)
	again, _ := repo.Quiet()
	return n, stamp, again == begun
}
