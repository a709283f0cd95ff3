package manifest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A reader reads JSON (RFC 8259) in one pass, and returns the values that its caller asks
// for. A registry reads every manifest that is pushed, needs a few strings of it, and would
// spend more time in encoding/json than in all the rest of the push. The reader accepts
// exactly what [encoding/json.Valid] accepts.
//
// The strings that it returns are substrings of its text, which need no memory of their
// own, unless they have escapes.
type reader struct {
	text  string
	pos   int
	depth int
}

// maxDepth bounds the nesting of arrays and objects, as in encoding/json.
const maxDepth = 10000

var errSyntax = errors.New("not well-formed JSON")

// errType is the error for a value of another type than its field requires.
type errType struct{ field string }

func (e *errType) Error() string { return fmt.Sprintf("its field %s has the wrong JSON type", e.field) }

// document reads the whole text, which must be an object. It calls field with the key of
// each member, whose value field must read.
func (r *reader) document(field func(key string) error) error {
	if r.next() != '{' {
		return errors.New("not a JSON object")
	}
	if err := r.object(field); err != nil {
		return err
	}
	if r.next(); r.pos < len(r.text) {
		return errSyntax
	}
	return nil
}

// located adds the position to a syntax error, and returns other errors unchanged.
func (r *reader) located(err error) error {
	if err == errSyntax {
		return fmt.Errorf("%w near byte %d", err, r.pos)
	}
	return err
}

// next returns the first byte of the next token, or 0 at the end.
func (r *reader) next() byte {
	for r.pos < len(r.text) {
		switch c := r.text[r.pos]; c {
		case ' ', '\t', '\r', '\n':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

// token reads the byte c, and white space before it.
func (r *reader) token(c byte) error {
	if r.next() != c || r.pos == len(r.text) {
		return errSyntax
	}
	r.pos++
	return nil
}

// null reads null if it is next, and reports whether it is.
func (r *reader) null() (bool, error) {
	if r.next() != 'n' {
		return false, nil
	}
	return true, r.literal("null")
}

func (r *reader) literal(word string) error {
	if !strings.HasPrefix(r.text[r.pos:], word) {
		return errSyntax
	}
	r.pos += len(word)
	return nil
}

// object reads an object. It calls member with the key of each member, whose
// value member must read.
func (r *reader) object(member func(key string) error) error {
	return r.list('{', '}', func() error {
		if r.next() != '"' {
			return errSyntax
		}
		key, err := r.string()
		if err != nil {
			return err
		}
		if err := r.token(':'); err != nil {
			return err
		}
		return member(key)
	})
}

// array reads an array. It calls element for each element, which element must
// read.
func (r *reader) array(element func() error) error { return r.list('[', ']', element) }

func (r *reader) list(open, end byte, element func() error) error {
	if err := r.token(open); err != nil {
		return err
	}
	if r.depth++; r.depth > maxDepth {
		return errSyntax
	}
	if r.next() == end {
		r.pos++
		r.depth--
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if r.next() != ',' {
			r.depth--
			return r.token(end)
		}
		r.pos++
	}
}

// skip reads a value of any type.
func (r *reader) skip() error {
	switch c := r.next(); {
	case c == '{':
		return r.object(func(string) error { return r.skip() })
	case c == '[':
		return r.array(r.skip)
	case c == '"':
		_, err := r.skipString()
		return err
	case c == 't':
		return r.literal("true")
	case c == 'f':
		return r.literal("false")
	case c == 'n':
		return r.literal("null")
	default:
		_, err := r.number()
		return err
	}
}

// number reads a number and returns its text.
func (r *reader) number() (string, error) {
	start := r.pos
	r.accept("-")
	if !r.accept("0") && !r.digits() {
		return "", errSyntax
	}
	if r.accept(".") && !r.digits() {
		return "", errSyntax
	}
	if r.accept("eE") {
		r.accept("+-")
		if !r.digits() {
			return "", errSyntax
		}
	}
	return r.text[start:r.pos], nil
}

// accept reads the next byte if it is one of bytes, and reports whether it is.
func (r *reader) accept(bytes string) bool {
	if r.pos == len(r.text) || strings.IndexByte(bytes, r.text[r.pos]) < 0 {
		return false
	}
	r.pos++
	return true
}

func (r *reader) digits() bool {
	start := r.pos
	for r.pos < len(r.text) && '0' <= r.text[r.pos] && r.text[r.pos] <= '9' {
		r.pos++
	}
	return r.pos > start
}

// skipString reads a string, checks that it is well formed, and reports whether
// it has escapes.
func (r *reader) skipString() (escaped bool, err error) {
	r.pos++ // the quote
	for {
		pos := r.pos
		for pos < len(r.text) && plain[r.text[pos]] {
			pos++
		}
		r.pos = pos
		switch {
		case pos == len(r.text) || r.text[pos] < ' ':
			return false, errSyntax
		case r.text[pos] == '"':
			r.pos++
			return escaped, nil
		}
		escaped = true
		if err := r.skipEscape(); err != nil {
			return false, err
		}
	}
}

// plain has the bytes that stand for themselves in a string: all except quotation marks,
// backslashes and control characters.
var plain = func() (plain [256]bool) {
	for c := ' '; c < 256; c++ {
		plain[c] = c != '"' && c != '\\'
	}
	return plain
}()

func (r *reader) skipEscape() error {
	r.pos++ // the backslash
	switch {
	case r.accept(`"\/bfnrt`):
		return nil
	case r.accept("u"):
		for range 4 {
			if !r.accept("0123456789abcdefABCDEF") {
				return errSyntax
			}
		}
		return nil
	}
	return errSyntax
}

// string reads a string and returns its value.
func (r *reader) string() (string, error) {
	start := r.pos
	escaped, err := r.skipString()
	if err != nil {
		return "", err
	}
	s := r.text[start+1 : r.pos-1]
	if escaped {
		return unescape(s), nil
	}
	return s, nil
}

// unescape returns the value of a well-formed string without its quotation marks.
func unescape(s string) string {
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		if s[0] != 'u' {
			b.WriteByte(escapes[s[0]])
			s = s[1:]
			continue
		}
		c := hex4(s[1:])
		s = s[5:]
		if utf16.IsSurrogate(c) {
			// Only a pair of surrogates is a character.
			c2 := rune(utf8.RuneError)
			if strings.HasPrefix(s, `\u`) {
				c2 = utf16.DecodeRune(c, hex4(s[2:]))
			}
			if c = c2; c != utf8.RuneError {
				s = s[6:]
			}
		}
		b.WriteRune(c)
	}
	return b.String()
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func hex4(s string) rune {
	n, _ := strconv.ParseUint(s[:4], 16, 16)
	return rune(n)
}

// The functions below read the value of a field, and store it unless it is null.

func (r *reader) stringField(field string, into *string) error {
	if null, err := r.null(); null || err != nil {
		return err
	}
	if r.next() != '"' {
		return r.wrongType(field)
	}
	s, err := r.string()
	*into = s
	return err
}

func (r *reader) intField(field string, into *int64) error {
	if null, err := r.null(); null || err != nil {
		return err
	}
	if c := r.next(); c != '-' && (c < '0' || c > '9') {
		return r.wrongType(field)
	}
	s, err := r.number()
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return &errType{field} // not an integer, or too large
	}
	*into = n
	return nil
}

func (r *reader) arrayField(field string, element func() error) error {
	if null, err := r.null(); null || err != nil {
		return err
	}
	if r.next() != '[' {
		return r.wrongType(field)
	}
	return r.array(element)
}

func (r *reader) objectField(field string, member func(key string) error) error {
	if null, err := r.null(); null || err != nil {
		return err
	}
	if r.next() != '{' {
		return r.wrongType(field)
	}
	return r.object(member)
}

// wrongType reads a value of another type than the field requires, and returns an errType,
// or the error of a value that is not well formed.
func (r *reader) wrongType(field string) error {
	if err := r.skip(); err != nil {
		return err
	}
	return &errType{field}
}
