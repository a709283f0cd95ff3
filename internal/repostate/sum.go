package repostate

import (
	"encoding/binary"
	"hash/crc32"
)

// An IndexSum tells one text of an index.json from another: it is the length of the text,
// and two checksums of it. A snapshot has that of the index.json that it was made for.
//
// It is there to find out that another program has written index.json since, and not against
// somebody who wants it to match: who can forge a text beside the snapshot could write the
// snapshot, too, or any index.json. Both checksums together have 64 bits, and processors have
// instructions for both, so that they cost less than reading the text.
//
// It is an [io.Writer] whose Write never fails. The zero IndexSum is that of the empty text.
type IndexSum struct {
	Length           int64 // in bytes
	Castagnoli, IEEE uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Write adds a part of the text.
func (s *IndexSum) Write(part []byte) (int, error) {
	s.Length += int64(len(part))
	s.Castagnoli = crc32.Update(s.Castagnoli, castagnoli, part)
	s.IEEE = crc32.Update(s.IEEE, crc32.IEEETable, part)
	return len(part), nil
}

// sumSize is the length of an encoded IndexSum, in bytes.
const sumSize = 16

func (s *IndexSum) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Length))
	dst = binary.LittleEndian.AppendUint32(dst, s.Castagnoli)
	return binary.LittleEndian.AppendUint32(dst, s.IEEE)
}

func parseSum(text string) IndexSum {
	words := column(text)
	length := uint64(words.at(0)) | uint64(words.at(1))<<32
	return IndexSum{Length: int64(length), Castagnoli: words.at(2), IEEE: words.at(3)}
}
