package manifest

import (
	"bytes"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// What is served for a tag need not be a manifest: gateways answer with a page to log
// in, proxies with an error that they keep, and all that with success. Of what is
// asked for by its digest, that decides. By a tag, a manifest is
//
//   - what a registry has named the digest of, whatever its type and contents;
//   - what passes CheckNamed, where a digest came along, but perhaps not from a
//     registry: whoever passes content on can compute one;
//   - what passes CheckUnnamed, where nobody has named a digest.
//
// A media type is page, vague, or specific; those that are [Known] are specific.

const space = " \t\r\n" // of JSON

// base returns a media type without its parameters. What is no media type, such as
// two of them, is cut off as well.
func base(mediaType string) string {
	mediaType = strings.TrimLeft(mediaType, " \t")
	if i := strings.IndexAny(mediaType, ";, \t"); i >= 0 {
		return mediaType[:i]
	}
	return mediaType
}

// known is [Known] for a media type in any case, with parameters, which mean nothing.
func known(mediaType string) (own string, ok bool) {
	if own, ok = Known(mediaType); !ok {
		own, ok = Known(strings.ToLower(base(mediaType)))
	}
	return own, ok
}

// IsPage reports whether a media type is that of a page for a browser, with or without
// parameters. That something is served as one proves neither a manifest nor a blob.
func IsPage(mediaType string) bool {
	b := base(mediaType)
	return strings.EqualFold(b, "text/html") || strings.EqualFold(b, "application/xhtml+xml")
}

// vague are the media types, beside those of pages, that anything can have.
var vague = [...]string{
	"application/octet-stream", "application/json", "text/plain",
	"application/problem+json", "application/problem+xml", "application/xml", "text/xml",
}

// IsVague reports whether a media type says less of a manifest than its contents may:
// it is that of a page, or one that anything can have, or it is none.
func IsVague(mediaType string) bool {
	if _, ok := known(mediaType); ok {
		return false
	}
	b := base(mediaType)
	for _, v := range vague {
		if strings.EqualFold(b, v) {
			return true
		}
	}
	return IsPage(mediaType) || ociregistry.CheckMediaType(mediaType) != nil
}

// ServedType returns the media type of a manifest that is served as mediaType. A vague
// one yields to the specific one that the contents say they have, or else to that
// which [TypeOf] finds. One that is [Known] has no parameters any more.
func ServedType(mediaType string, contents []byte) string {
	if own, ok := known(mediaType); ok {
		return own
	}
	if !IsVague(mediaType) || !bytes.HasPrefix(bytes.TrimLeft(contents, space), []byte("{")) {
		return mediaType
	}
	text := string(contents)
	if own := read(text).mediaType; own != "" && !IsVague(own) {
		return own
	}
	if own := TypeOf(text); own != "" {
		return own
	}
	return mediaType
}

// CheckNamed returns an error that wraps [ociregistry.ErrManifestInvalid] if contents
// that came with their digest, and by a tag, are not those of a manifest as far as can
// be told. They may be of any type, and no JSON; but not nothing, a page or an error.
// An object or markup of a vague type is taken for one of these, unless it is a
// manifest by itself.
func CheckNamed(mediaType string, contents []byte) error {
	text := string(contents)
	s := read(text)
	_, isKnown := known(mediaType)
	start := strings.TrimLeft(text, space)
	switch {
	case text == "":
		return invalid("nothing was served")
	case s.isManifest:
		return nil
	case IsPage(mediaType), looksLikePage(start), IsVague(mediaType) && strings.HasPrefix(start, "<"):
		return invalid("a page was served")
	case s.isError, s.isObject && IsVague(mediaType), isProblem(mediaType):
		return invalid("an error was served")
	case isKnown && !s.isObject:
		return invalid("something else was served")
	}
	return nil
}

// CheckUnnamed is [CheckNamed] for contents of which nobody has named the digest. They
// have to be a manifest by themselves, and are none if they are served as a page.
func CheckUnnamed(mediaType string, contents []byte) error {
	switch {
	case IsPage(mediaType):
		return invalid("a page was served")
	case !read(string(contents)).isManifest:
		return invalid("something else was served")
	}
	return nil
}

// isProblem reports whether a media type is that of an error (RFC 9457).
func isProblem(mediaType string) bool {
	b := base(mediaType)
	return strings.EqualFold(b, "application/problem+json") || strings.EqualFold(b, "application/problem+xml")
}

// looksLikePage reports whether a text begins as a page does.
func looksLikePage(text string) bool {
	for _, start := range []string{"<!doctype html", "<html"} {
		if len(text) >= len(start) && strings.EqualFold(text[:len(start)], start) {
			return true
		}
	}
	return false
}

// signs are what contents show of what they are.
type signs struct {
	isObject   bool
	isManifest bool   // it has a field that only manifests have
	isError    bool   // it has a field that errors have
	mediaType  string // the value of that field; may be empty
}

// read reads a text that need not even be JSON. A field whose value is of another type
// than a manifest's is no sign of one; what it names is not looked at.
func read(text string) (s signs) {
	r := reader{text: text}
	err := r.document(func(key string) error {
		switch c := r.next(); key {
		case "schemaVersion":
			s.isManifest = s.isManifest || '1' <= c && c <= '9'
		case "mediaType":
			if c != '"' {
				break
			}
			err := r.stringField(key, &s.mediaType)
			s.isManifest = s.isManifest || s.mediaType != ""
			return err
		case "manifests", "layers", "blobs":
			s.isManifest = s.isManifest || c == '['
		case "config":
			if c != '{' {
				break
			}
			return r.object(func(key string) error {
				s.isManifest = s.isManifest || key == "digest" && r.next() == '"'
				return r.skip()
			})
		case "errors", "error":
			s.isError = s.isError || c != 'n'
		}
		return r.skip()
	})
	if err != nil {
		return signs{}
	}
	s.isObject = true
	return s
}
