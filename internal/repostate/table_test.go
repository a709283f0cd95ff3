package repostate

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"

	"github.com/seed-40b21970/oci/ociregistry"
)

// content is what a table is to have.
type content struct {
	rows map[ociregistry.Digest]row
	tags map[string]ociregistry.Digest
}

// digestOfN returns one of many digests.
func digestOfN(n int) ociregistry.Digest {
	if n%7 == 0 {
		return digest.SHA512.FromString(fmt.Sprint(n))
	}
	return digest.FromString(fmt.Sprint(n))
}

// change changes the content at random. What is named, a manifest, a subject or all of these
// is one of few digests.
func (c *content) change(rnd *rand.Rand) {
	some := func() ociregistry.Digest { return digestOfN(rnd.IntN(60)) }
	claims := func() (claims []claim) {
		for range rnd.IntN(4) {
			c := claim{some(), 100}
			if rnd.IntN(8) == 0 {
				c.size = rnd.Int64N(3)
			}
			if rnd.IntN(10) == 0 {
				c.digest = "md5:none"
			}
			claims = append(claims, c)
		}
		return claims
	}
	for range rnd.IntN(20) {
		d := some()
		r := row{digest: d, size: rnd.Int64N(1000), mediaType: fmt.Sprint("type/", rnd.IntN(3)), blob: rnd.IntN(5) == 0, typeFound: rnd.IntN(5) == 0}
		if r.read = rnd.IntN(5) > 0; r.read {
			r.blobs, r.manifests = claims(), claims()
			r.implicit, r.parent = rnd.IntN(5) == 0, rnd.IntN(2) == 0
			r.artifactType = []string{"", "a/b", "type/1"}[rnd.IntN(3)]
			r.subject = []ociregistry.Digest{"", "", some(), "md5:none"}[rnd.IntN(4)]
		}
		c.rows[d] = r
	}
	all := slices.Sorted(maps.Keys(c.rows))
	for _, d := range all {
		if rnd.IntN(10) == 0 {
			delete(c.rows, d)
			maps.DeleteFunc(c.tags, func(_ string, target ociregistry.Digest) bool { return target == d })
		}
	}
	for range rnd.IntN(20) {
		if d := some(); c.rows[d].digest != "" {
			c.tags[fmt.Sprint("v", rnd.IntN(30))] = d
		}
	}
}

// write returns the table of c, written as changes of an old table, which has some rows.
func (c *content) write(t testing.TB, old *table, has map[ociregistry.Digest]row) *table {
	w := tableWriter{old: old}
	w.gone = func(i int) bool { return !same(c.rows[old.digest(i)], has[old.digest(i)]) }
	for d, r := range c.rows {
		if before, ok := has[d]; !ok || !same(before, r) {
			w.rows = append(w.rows, r)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.tags)) {
		tag := tagRow{name: name, target: -1, digest: c.tags[name]}
		if i, found := old.findManifest(tag.digest); found {
			tag.target = i
		}
		w.tags = append(w.tags, tag)
	}
	sum := IndexSum{1 << 40, 2, 3}
	text, err := w.write(sum, len(c.tags) > 5, len(c.rows))
	qt.Assert(t, qt.IsNil(err))
	written, foreign, unknown, err := parseTable(string(text), checksum(string(text)))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(written.isSound()))
	qt.Check(t, qt.Equals(unknown, len(c.rows)))
	qt.Check(t, qt.Equals(foreign, len(c.tags) > 5))
	got, ok := SnapshotSum(string(text[:SnapshotHeader]))
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(got, sum))
	return written
}

func same(a, b row) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// valid returns the claims whose digests are valid.
func valid(claims []claim) []claim {
	return slices.DeleteFunc(slices.Clone(claims), func(c claim) bool { return c.digest == "md5:none" })
}

// check compares a table with what it is to have.
func (c *content) check(t testing.TB, table *table) {
	tags := slices.Sorted(maps.Keys(c.tags))
	qt.Assert(t, qt.Equals(table.manifests.len(), len(c.rows)))
	qt.Assert(t, qt.Equals(table.tagEnds.len(), len(tags)))
	for i, name := range tags {
		n, found := table.findTag(name)
		qt.Assert(t, qt.IsTrue(found && n == i && table.tag(i) == name))
		qt.Check(t, qt.Equals(table.digest(int(table.targets.at(i))), c.tags[name]))
	}
	unread, partial := 0, 0
	named := make(map[ociregistry.Digest]*fact)
	referrers := make(map[ociregistry.Digest][]ociregistry.Digest)
	for _, d := range slices.Sorted(maps.Keys(c.rows)) {
		want := c.rows[d]
		i, found := table.findManifest(d)
		qt.Assert(t, qt.IsTrue(found))
		r := table.record(i)
		rest := table.details(&r)
		qt.Check(t, qt.Equals(r.ownSize, want.size))
		qt.Check(t, qt.Equals(r.mediaType, want.mediaType))
		qt.Check(t, qt.Equals(rest.artifactType, want.artifactType))
		qt.Check(t, qt.Equals(r.head&isBlob != 0, want.blob))
		qt.Check(t, qt.Equals(r.head&isImplicit != 0, want.implicit))
		qt.Check(t, qt.Equals(r.head&isRead != 0, want.read))
		qt.Check(t, qt.Equals(r.head&isParent != 0, want.parent))
		qt.Check(t, qt.Equals(r.head&isTypeFound != 0, want.typeFound))
		blobs, manifests := table.claims(&r)
		qt.Check(t, qt.IsTrue(slices.Equal(blobs, valid(want.blobs))))
		qt.Check(t, qt.IsTrue(slices.Equal(manifests, valid(want.manifests))))
		var names []string
		for _, n := range table.tagNumbers(i) {
			names = append(names, table.tag(n))
		}
		qt.Check(t, qt.IsTrue(slices.Equal(names, slices.DeleteFunc(slices.Clone(tags), func(name string) bool { return c.tags[name] != d }))))
		if !want.read {
			qt.Assert(t, qt.Equals(table.unread.at(unread), uint32(i)))
			unread++
		}
		if ociregistry.CheckDigest(want.subject) == nil {
			referrers[want.subject] = append(referrers[want.subject], d)
		}
		whole := true
		for n, claims := range [][]claim{valid(want.blobs), valid(want.manifests)} {
			for _, claim := range claims {
				if named[claim.digest] == nil {
					named[claim.digest] = new(fact)
				}
				named[claim.digest].count(claim.size, n == 0)
				whole = whole && (n == 0 || c.rows[claim.digest].digest != "")
			}
		}
		if want.parent && !whole {
			qt.Assert(t, qt.Equals(table.partial.at(partial), uint32(i)))
			partial++
		}
	}
	qt.Check(t, qt.Equals(table.unread.len(), unread))
	qt.Check(t, qt.Equals(table.partial.len(), partial))
	for n := range 70 {
		d := digestOfN(n)
		i, found := table.find(d)
		qt.Assert(t, qt.Equals(found, named[d] != nil || referrers[d] != nil || c.rows[d].digest != ""))
		if !found {
			continue
		}
		r := table.record(i)
		want := fact{size: -1}
		if named[d] != nil {
			want.size, want.blobs, want.manifests = named[d].size, named[d].blobs, named[d].manifests
		}
		// The writer meets sizes in another order, which makes no difference.
		qt.Check(t, qt.DeepEquals([]int64{r.size, int64(r.blobs), int64(r.manifests)}, []int64{want.size, int64(want.blobs), int64(want.manifests)}))
		var got []ociregistry.Digest
		for k := range r.referrers.len() {
			got = append(got, table.digest(int(r.referrers.at(k))))
		}
		qt.Check(t, qt.DeepEquals(got, referrers[d]))
	}
}

func TestTable_HasWhatWasWritten(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			c := content{make(map[ociregistry.Digest]row), make(map[string]ociregistry.Digest)}
			old := new(table)
			for range 8 {
				has := maps.Clone(c.rows)
				c.change(rnd)
				old = c.write(t, old, has)
				c.check(t, old)
			}
		})
	}
}

func TestTable_RefusesManifestsThatItCannotHave(t *testing.T) {
	t.Parallel()
	w := tableWriter{old: new(table), rows: []row{{digest: "md5:none"}}}
	_, err := w.write(IndexSum{}, false, 0)
	qt.Check(t, qt.IsNotNil(err))
}

// A text that was cut or damaged is no snapshot, whatever its checksum says.
func TestTable_DamageIsFound(t *testing.T) {
	t.Parallel()
	text := randomSnapshot(t)
	for n := range len(text) {
		_, _, _, err := parseTable(text[:n], checksum(text[:n]))
		qt.Assert(t, qt.ErrorIs(err, ErrNoSnapshot))
		damaged := []byte(text)
		damaged[n] ^= 1 << (n % 8)
		_, _, _, err = parseTable(string(damaged), checksum(string(damaged)))
		qt.Assert(t, qt.ErrorIs(err, ErrNoSnapshot))
	}
	_, _, _, err := parseTable(text+"x", checksum(text+"x"))
	qt.Check(t, qt.ErrorIs(err, ErrNoSnapshot))
}

func randomSnapshot(t testing.TB) string {
	c := content{make(map[ociregistry.Digest]row), make(map[string]ociregistry.Digest)}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		c.change(rnd)
	}
	w := tableWriter{old: new(table), rows: slices.Collect(maps.Values(c.rows))}
	for _, name := range slices.Sorted(maps.Keys(c.tags)) {
		w.tags = append(w.tags, tagRow{name: name, target: -1, digest: c.tags[name]})
	}
	text, err := w.write(IndexSum{}, true, 0)
	qt.Assert(t, qt.IsNil(err))
	return string(text)
}

// withChecksum returns a text that begins as a snapshot does, and has the right checksum.
func withChecksum(text string) string {
	fixed := []byte(text)
	copy(fixed, magic)
	binary.LittleEndian.PutUint32(fixed[len(magic):], crc32.Checksum(fixed[len(magic)+4:], castagnoli))
	return string(fixed)
}

// use makes all calls on the state of a snapshot, if the text is taken for one. What is sound
// is snapshot again, and nothing is left of it when all manifests are deleted.
func use(t testing.TB, text string) (taken, sound bool) {
	s, err := Open(text)
	if err != nil {
		return false, false
	}
	sound = s.base.isSound()
	snap, err := s.Snapshot(IndexSum{}, new(sync.Mutex))
	if err == nil {
		qt.Assert(t, qt.IsTrue(snap.State.base.isSound()))
	} else {
		qt.Assert(t, qt.IsFalse(sound))
	}
	qt.Assert(t, qt.IsNil(s.WriteIndex(io.Discard, new(sync.Mutex))))
	qt.Assert(t, qt.IsNil(s.MergeIndex(io.Discard, EmptyIndex, new(sync.Mutex))))
	New().Inherit(s)
	for _, tag := range s.AppendTags(nil, "", 1<<20) {
		qt.Assert(t, qt.IsNotNil(s.Tag(tag)))
	}
	for i := range s.base.count() {
		d := s.base.digest(i)
		all := s.AppendReferrers(nil, d, "", 1<<20)
		qt.Assert(t, qt.IsTrue(slices.IsSorted(all)))
		s.NamedSize(d)
		s.MayBeStored(d)
	}
	for range s.Untyped() {
	}
	s.Partial()
	for m := range s.Unread() {
		s.SetObscure(m)
	}
	s.Apply(&Op{Kind: PutManifest, Digest: digestA, MediaType: "a/b", Tags: []string{"v1", "v2", "v3"}})
	for _, m := range s.Manifests() {
		s.TagsOf(m)
		s.OnlyNamedBy(m)
		s.Apply(&Op{Kind: DeleteManifest, Digest: m.Digest})
		s.Unsure(s.AppendTags(nil, "", 1<<20))
	}
	if sound {
		qt.Assert(t, qt.IsTrue(s.IsEmpty()))
		qt.Assert(t, qt.HasLen(s.AppendTags(nil, "", 1<<20), 0))
	}
	return true, sound
}

// A text that has the right checksum, but numbers that stand for nothing, does no harm.
func TestTable_GarbageIsRefusedOrHarmless(t *testing.T) {
	t.Parallel()
	text := randomSnapshot(t)
	taken, sound := use(t, text)
	qt.Assert(t, qt.IsTrue(taken && sound))
	rnd := rand.New(rand.NewPCG(5, 5))
	wrong, right := 0, 0
	const n = 500 // FuzzTable does more of it
	for range n {
		damaged := []byte(text)
		for range 1 + rnd.IntN(3) {
			damaged[rnd.IntN(len(damaged))] = byte(rnd.IntN(256))
		}
		if taken, sound := use(t, withChecksum(string(damaged))); sound {
			right++
		} else if taken {
			wrong++
		}
	}
	t.Logf("of %d, %d were taken for snapshots, and %d of them are wrong", n, wrong+right, wrong)
}

// FuzzTable reads any text as a snapshot, with the checksum that it must have.
func FuzzTable(f *testing.F) {
	f.Add(randomSnapshot(f))
	empty, err := (&tableWriter{old: new(table)}).write(IndexSum{}, false, 0)
	qt.Assert(f, qt.IsNil(err))
	f.Add(string(empty))
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) >= headerSize {
			use(t, withChecksum(text))
		}
	})
}

// images is what a repository of n images has. Each has a config and a layer of its own, and
// two layers that it shares with others.
func images(n int) (rows []row, tags []tagRow) {
	for i := range n {
		r := row{digest: digest.FromString(fmt.Sprint("manifest", i)), size: 800, mediaType: "application/vnd.oci.image.manifest.v1+json",
			artifactType: "application/vnd.oci.image.config.v1+json", read: true}
		for _, layer := range []string{fmt.Sprint("config", i), fmt.Sprint("layer", i), fmt.Sprint("base", i/100), fmt.Sprint("base", i/50)} {
			r.blobs = append(r.blobs, claim{digest.FromString(layer), int64(len(layer)) << 20})
		}
		rows = append(rows, r)
		tags = append(tags, tagRow{name: fmt.Sprintf("tag-%07d", i), target: -1, digest: r.digest})
	}
	return rows, tags
}

const manyImages = 100_000

func BenchmarkTable(b *testing.B) {
	rows, tags := images(manyImages)
	text, err := (&tableWriter{old: new(table), rows: rows, tags: tags}).write(IndexSum{}, false, 0)
	qt.Assert(b, qt.IsNil(err))
	snapshot := string(text)
	old, _, _, err := parseTable(snapshot, checksum(snapshot))
	qt.Assert(b, qt.IsNil(err))
	b.Run("Open", func(b *testing.B) {
		b.ReportAllocs()
		b.ReportMetric(float64(len(text))/manyImages, "bytes/image")
		for b.Loop() {
			parseTable(snapshot, checksum(snapshot))
		}
	})
	b.Run("Check", func(b *testing.B) {
		for b.Loop() {
			checksum(snapshot)
		}
	})
	b.Run("FindTag", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			old.findTag(tags[i*7919%manyImages].name)
		}
	})
	b.Run("FindManifest", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			n, _ := old.findManifest(rows[i*7919%manyImages].digest)
			old.record(n)
		}
	})
	b.Run("Write/first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			(&tableWriter{old: new(table), rows: rows, tags: tags}).write(IndexSum{}, false, 0)
		}
	})
	b.Run("Write/next", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w := tableWriter{old: old, gone: func(i int) bool { return i == 5 }, rows: rows[5:6]}
			for i := range old.tagEnds.len() {
				target := int(old.targets.at(i))
				w.tags = append(w.tags, tagRow{name: old.tag(i), target: target})
			}
			w.write(IndexSum{}, false, 0)
		}
	})
}
