package repostate

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// encode writes the snapshot of the new table.
func (w *tableWriter) encode(sum IndexSum, foreign bool, unknown int) ([]byte, error) {
	w.strings = make(map[string]uint64)
	w.string("")
	names := 0
	for i := range w.tags {
		names += len(w.tags[i].name)
	}
	known := headerSize + (size256+4)*len(w.order) + 16*len(w.tags) + names
	text := make([]byte, headerSize, known+max(len(w.old.records)+len(w.old.records)/8, 16*len(w.order)))

	text, manifests512 := w.appendKeys(text, w.order[:w.manifests])
	text, others512 := w.appendKeys(text, w.order[w.manifests:])
	ends := len(text)
	text = append(text, make([]byte, 4*len(w.order))...)
	end := 0
	for i := range w.tags {
		end += len(w.tags[i].name)
		text = appendColumn(text, end)
	}
	for i := range w.tags {
		text = appendColumn(text, w.target(&w.tags[i]))
	}
	for i := range w.tags {
		text = binary.LittleEndian.AppendUint64(text, uint64(w.tags[i].pushed))
	}
	for i := range w.tags {
		text = append(text, w.tags[i].name...)
	}
	start := len(text)
	text = w.appendRecords(text, ends)
	records := len(text) - start
	text = appendColumn(appendColumn(text, w.unread...), w.partial...)
	end = 0
	for _, s := range w.names {
		end += len(s)
		text = appendColumn(text, end)
	}
	for _, s := range w.names {
		text = append(text, s...)
	}
	if uint64(max(records, names, end)) > math.MaxUint32 {
		return nil, errTooLarge
	}

	flags := 0
	if foreign {
		flags = 1
	}
	header := append(text[:0], magic...)
	header = append(header, 0, 0, 0, 0)
	header = sum.append(header)
	appendColumn(header, flags, unknown, w.manifests-manifests512, manifests512, len(w.order)-w.manifests-others512, others512,
		len(w.tags), len(w.unread), len(w.partial), len(w.names), names, end, records)
	binary.LittleEndian.PutUint32(text[len(magic):], crc32.Checksum(text[len(magic)+4:], castagnoli))
	return text, nil
}

// appendKeys appends the keys of ids. It returns how many are of SHA-512.
func (w *tableWriter) appendKeys(dst []byte, ids []int32) (text []byte, long int) {
	for _, id := range ids {
		before := len(dst)
		if dst = w.appendKey(dst, id); len(dst)-before == size512 {
			long++
		}
	}
	return dst, long
}

// string returns the number of a string.
func (w *tableWriter) string(s string) uint64 {
	n, found := w.strings[s]
	if !found {
		n = uint64(len(w.names))
		w.strings[s] = n
		w.names = append(w.names, s)
	}
	return n
}

// appendRecords appends all records. It writes where they end into the column of dst that
// begins at ends.
func (w *tableWriter) appendRecords(dst []byte, ends int) []byte {
	start := len(dst)
	for i, id := range w.order {
		switch row := w.facts[id].row; {
		case i >= w.manifests:
			dst = w.appendFact(dst, 0, i)
		case row >= 0:
			dst = w.appendTags(w.appendRow(dst, i, &w.rows[row]), i)
		default:
			dst = w.appendTags(w.appendOld(dst, i, int(id)), i)
		}
		binary.LittleEndian.PutUint32(dst[ends+4*i:], uint32(len(dst)-start))
	}
	return dst
}

// appendFact appends the beginning of a record, whose head has other bits beside.
func (w *tableWriter) appendFact(dst []byte, head uint64, i int) []byte {
	f := &w.facts[w.order[i]]
	referrers := w.referrers.of(i)
	if f.blobs+f.manifests > 0 {
		head |= isNamed
	}
	if len(referrers) > 0 {
		head |= isSubject
	}
	dst = binary.AppendUvarint(dst, head)
	if head&isNamed != 0 {
		dst = binary.AppendUvarint(dst, uint64(f.size+1))
		dst = binary.AppendUvarint(dst, uint64(f.blobs))
		dst = binary.AppendUvarint(dst, uint64(f.manifests))
	}
	if head&isSubject != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(referrers)))
		dst = appendColumn(dst, referrers...)
	}
	return dst
}

// appendManifest appends what the record of each manifest begins with.
func (w *tableWriter) appendManifest(dst []byte, head uint64, i int, size int64, mediaType string) []byte {
	tags := w.tagged.of(i)
	if len(tags) > 0 {
		head |= isTagged
	}
	if head&isRead == 0 {
		w.unread = append(w.unread, uint32(i))
	}
	dst = w.appendFact(dst, head, i)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = binary.AppendUvarint(dst, w.string(mediaType))
	if len(tags) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(tags)))
	}
	return dst
}

// appendTags appends the end of the record of a manifest.
func (w *tableWriter) appendTags(dst []byte, i int) []byte {
	for _, tag := range w.tagged.of(i) {
		dst = binary.AppendUvarint(dst, uint64(tag))
	}
	return dst
}

func (w *tableWriter) appendRow(dst []byte, i int, r *row) []byte {
	bits := uint64(0)
	for _, bit := range []struct {
		is  bool
		bit uint64
	}{{r.blob, isBlob}, {r.implicit, isImplicit}, {r.read, isRead}, {r.parent, isParent}, {r.typeFound, isTypeFound}, {w.facts[r.id].subject >= 0, hasSubject}} {
		if bit.is {
			bits |= bit.bit
		}
	}
	blobs, manifests := 0, 0
	refs := w.refs[r.firstRef:][:len(r.blobs)+len(r.manifests)]
	for n, id := range refs {
		switch {
		case id < 0:
		case n < len(r.blobs):
			blobs++
		default:
			manifests++
		}
	}
	if blobs+manifests > 0 {
		bits |= hasClaims
	}
	dst = w.appendManifest(dst, bits, i, r.size, r.mediaType)
	if !r.read {
		return dst
	}
	dst = binary.AppendUvarint(dst, w.string(r.artifactType))
	if subject := w.facts[r.id].subject; subject >= 0 {
		dst = binary.AppendUvarint(dst, uint64(w.facts[subject].number))
	}
	if bits&hasClaims == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(blobs))
	dst = binary.AppendUvarint(dst, uint64(manifests))
	whole := true
	for n, id := range refs {
		switch {
		case id < 0:
			continue
		case n < len(r.blobs):
			dst = w.appendName(dst, id, r.blobs[n].size)
		default:
			dst = w.appendName(dst, id, r.manifests[n-len(r.blobs)].size)
			whole = whole && w.facts[id].manifest
		}
	}
	w.notePartial(i, r.parent, whole)
	return dst
}

// appendOld appends the record of a manifest of the old table.
func (w *tableWriter) appendOld(dst []byte, i, number int) []byte {
	r := w.old.record(number)
	d := w.old.details(&r)
	dst = w.appendManifest(dst, r.head&^(isNamed|isSubject|isTagged), i, r.ownSize, r.mediaType)
	if r.head&isRead == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, w.string(d.artifactType))
	if d.subject >= 0 {
		dst = binary.AppendUvarint(dst, uint64(w.facts[d.subject].number))
	}
	if r.head&hasClaims == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(d.names.blobs))
	dst = binary.AppendUvarint(dst, uint64(d.names.manifests))
	whole := true
	for n, ok := d.names.next(); ok; n, ok = d.names.next() {
		dst = w.appendName(dst, int32(n.number), w.size(n))
		whole = whole && (n.blob || w.facts[n.number].manifest)
	}
	w.notePartial(i, r.head&isParent != 0, whole)
	return dst
}

func (w *tableWriter) appendName(dst []byte, id int32, size int64) []byte {
	f := &w.facts[id]
	if size == f.size {
		return binary.AppendUvarint(dst, 2*uint64(f.number))
	}
	dst = binary.AppendUvarint(dst, 2*uint64(f.number)+1)
	return binary.AppendUvarint(dst, uint64(size))
}

func (w *tableWriter) notePartial(i int, parent, whole bool) {
	if parent && !whole {
		w.partial = append(w.partial, uint32(i))
	}
}
