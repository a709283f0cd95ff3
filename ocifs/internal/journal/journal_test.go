package journal_test

import (
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ocifs/internal/journal"
)

// record appends a record to text that ends at p.
func record(text string, p journal.Position, payload string) (string, journal.Position) {
	b, end := journal.AppendRecord([]byte(text), p, func(dst []byte) []byte { return append(dst, payload...) })
	return string(b), end
}

// newJournal returns a journal with records, and the positions behind its header and
// behind each record.
func newJournal(payloads ...string) (text string, at []journal.Position) {
	header, p := journal.NewHeader()
	text, at = string(header), []journal.Position{p}
	for _, payload := range payloads {
		text, p = record(text, p, payload)
		at = append(at, p)
	}
	return text, at
}

// read returns the payloads of the records in text, which begins at p.
func read(text string, p journal.Position) (payloads []string, end journal.Position) {
	end = journal.ReadRecords(text, p, func(payload string) error {
		payloads = append(payloads, payload)
		return nil
	})
	return payloads, end
}

// TestFormat_IsThatOfExistingFiles holds the format to that of existing journals.
func TestFormat_IsThatOfExistingFiles(t *testing.T) {
	t.Parallel()
	header := "ocifs journal 1\n0123456789abcdef"
	p, ok := journal.ParseHeader([]byte(header))
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(p.Offset(), 32))
	qt.Check(t, qt.IsFalse(p.HasRecords()))

	text, end := record(header, p, "first")
	text, end = record(text, end, "2")
	qt.Check(t, qt.Equals(hex.EncodeToString([]byte(text[len(header):])), "050000000a2b28a66669727374"+"01000000046ae1e832"))
	qt.Check(t, qt.Equals(end.Offset(), int64(len(text))))
	qt.Check(t, qt.IsTrue(end.HasRecords()))
	payloads, got := read(text[len(header):], p)
	qt.Check(t, qt.DeepEquals(payloads, []string{"first", "2"}))
	qt.Check(t, qt.Equals(got, end))
}

func TestParseHeaderRefusesWhatIsNone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "ocifs journal 1\n", "ocifs journal 1\n0123456789abcde", "ocifs journal 2\n0123456789abcdef", strings.Repeat("\x00", journal.HeaderSize)} {
		p, ok := journal.ParseHeader([]byte(text))
		qt.Check(t, qt.IsFalse(ok), qt.Commentf("%q", text))
		qt.Check(t, qt.Equals(p, journal.Position{}))
	}
}

func TestNewHeaderBeginsANewGeneration(t *testing.T) {
	t.Parallel()
	header, p := journal.NewHeader()
	_, q := journal.NewHeader()
	again, ok := journal.ParseHeader(header)
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(again, p))
	qt.Check(t, qt.IsTrue(again.SameGeneration(p)))
	qt.Check(t, qt.IsFalse(q.SameGeneration(p)))
}

// A power cut may leave any part of a record.
func TestReadRecordsStopsAtWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	text, at := newJournal("one", "two", "three")
	for n := journal.HeaderSize; n <= len(text); n++ {
		whole := 0
		for whole+1 < len(at) && at[whole+1].Offset() <= int64(n) {
			whole++
		}
		payloads, end := read(text[journal.HeaderSize:n], at[0])
		qt.Check(t, qt.HasLen(payloads, whole), qt.Commentf("%d bytes", n))
		qt.Check(t, qt.Equals(end, at[whole]), qt.Commentf("%d bytes", n))
	}
}

// The checksum covers each byte of a record and of those before it.
func TestReadRecordsStopsAtWhatIsDamaged(t *testing.T) {
	t.Parallel()
	text, at := newJournal("one", "two", "three")
	for i := journal.HeaderSize; i < len(text); i++ {
		damaged := []byte(text)
		damaged[i] ^= 0x20
		hit := slices.IndexFunc(at, func(p journal.Position) bool { return p.Offset() > int64(i) }) - 1
		payloads, end := read(string(damaged[journal.HeaderSize:]), at[0])
		qt.Check(t, qt.HasLen(payloads, hit), qt.Commentf("byte %d", i))
		qt.Check(t, qt.Equals(end, at[hit]), qt.Commentf("byte %d", i))
	}
}

func TestReadRecordsStopsAtARecordOfAnotherPosition(t *testing.T) {
	t.Parallel()
	text, at := newJournal("one", "two")
	second := text[at[1].Offset():]
	for name, p := range map[string]journal.Position{"behind the header": at[0], "a second time": at[2]} {
		payloads, end := read(second, p)
		qt.Check(t, qt.HasLen(payloads, 0), qt.Commentf("%s", name))
		qt.Check(t, qt.Equals(end, p))
	}
	other, at := newJournal("one")
	payloads, _ := read(other[journal.HeaderSize:]+second, at[0])
	qt.Check(t, qt.DeepEquals(payloads, []string{"one"}), qt.Commentf("of another generation"))
}

func TestReadRecordsStopsAtAnEmptyRecord(t *testing.T) {
	t.Parallel()
	_, at := newJournal()
	text, _ := record("", at[0], "")
	_, end := read(text, at[0])
	qt.Check(t, qt.Equals(end, at[0]))
}

func TestReadRecordsStopsAtAPayloadThatIsRefused(t *testing.T) {
	t.Parallel()
	text, at := newJournal("one", "two", "three")
	end := journal.ReadRecords(text[journal.HeaderSize:], at[0], func(payload string) error {
		if payload == "two" {
			return errors.New("malformed")
		}
		return nil
	})
	qt.Check(t, qt.Equals(end, at[1]))
}

func TestIsIn(t *testing.T) {
	t.Parallel()
	text, at := newJournal("one", "two")
	other, _ := newJournal("one", "two")
	longer, _ := record(text, at[2], "three")
	instead, _ := record(text[:at[1].Offset()], at[1], "owt")
	for _, test := range []struct {
		name    string
		journal string
		p       journal.Position
		want    bool
	}{
		{"the same", text, at[2], true},
		{"what was appended to", longer, at[2], true},
		{"less of it", text, at[1], true},
		{"none of its records", text, at[0], true},
		{"what was cut", text[:at[2].Offset()-1], at[2], false},
		{"another record in place of the last", instead, at[2], false},
		{"what is before that", instead, at[1], true},
		{"another generation", other, at[2], false},
		{"no journal", text, journal.Position{}, false},
		{"an empty file", "", at[0], false},
		{"a part of the header", text[:20], at[0], false},
	} {
		got := test.p.IsIn(strings.NewReader(test.journal), int64(len(test.journal)))
		qt.Check(t, qt.Equals(got, test.want), qt.Commentf("%s", test.name))
	}
	qt.Check(t, qt.IsFalse(at[2].IsIn(unreadable{}, int64(len(text)))))
}

type unreadable struct{}

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzReadRecords reads any text after any header. Appending the records that it
// finds must give the same text.
func FuzzReadRecords(f *testing.F) {
	text, _ := newJournal("one", strings.Repeat("two", 100))
	f.Add(text[:journal.HeaderSize], text[journal.HeaderSize:])
	f.Add(text[:journal.HeaderSize], text[journal.HeaderSize:len(text)-1])
	f.Add("ocifs journal 1\n0123456789abcdef", "\xff\xff\xff\xff\x00\x00\x00\x00")
	f.Fuzz(func(t *testing.T, header, text string) {
		p, ok := journal.ParseHeader([]byte(header))
		if !ok {
			return
		}
		payloads, end := read(text, p)
		n := end.Offset() - p.Offset()
		if n < 0 || n > int64(len(text)) {
			t.Fatalf("%d bytes of %d", n, len(text))
		}
		again, at := "", p
		for _, payload := range payloads {
			again, at = record(again, at, payload)
		}
		if again != text[:n] || at != end {
			t.Fatalf("%q was read as %q", text[:n], again)
		}
		whole := header[:journal.HeaderSize] + text
		if !end.IsIn(strings.NewReader(whole), int64(len(whole))) {
			t.Fatal("the end is not in what it was read from")
		}
	})
}
