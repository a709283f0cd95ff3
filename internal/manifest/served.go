package manifest

import (
	"bytes"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
)

// The response to a request for a tag need not be a manifest, even if its status is a
// success: gateways send login pages, and proxies cached errors. For a request by digest,
// the digest decides. For a request by tag, contents count as a manifest if
//
//   - a registry has sent their digest, whatever their type; or
//   - CheckNamed accepts them, and a digest came with them, perhaps not from a registry:
//     anybody who forwards content can compute one; or
//   - CheckUnnamed accepts them, and no digest came with them.
//
// A media type is that of a page, vague, or specific. [Known] ones are specific.

const space = " \t\r\n" // in JSON

// base returns a media type without its parameters, and without anything else that may
// follow it, such as a second media type.
func base(mediaType string) string {
	mediaType = strings.TrimLeft(mediaType, " \t")
	if i := strings.IndexAny(mediaType, ";, \t"); i >= 0 {
		return mediaType[:i]
	}
	return mediaType
}

// known is like [Known]. It ignores case and parameters.
func known(mediaType string) (own string, ok bool) {
	if own, ok = Known(mediaType); !ok {
		own, ok = Known(strings.ToLower(base(mediaType)))
	}
	return own, ok
}

// IsPage reports whether a media type, with or without parameters, is that of a page for a
// browser. Content of such a type need be neither a manifest nor a blob.
func IsPage(mediaType string) bool {
	b := base(mediaType)
	return strings.EqualFold(b, "text/html") || strings.EqualFold(b, "application/xhtml+xml")
}

// vague has the media types, besides those of pages, that any content can have.
var vague = [...]string{
	"application/octet-stream", "application/json", "text/plain",
	"application/problem+json", "application/problem+xml", "application/xml", "text/xml",
}

// IsVague reports whether the contents of a manifest may say more about their type than a
// media type does: it is that of a page, one that any content can have, or invalid.
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

// ServedType returns the media type of a manifest whose Content-Type is mediaType. A vague
// one yields to a specific one in the contents, or else to the result of [TypeOf].
// ServedType removes the parameters of a [Known] one.
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

// CheckNamed returns an error that wraps [ociregistry.ErrManifestInvalid] if contents that
// were requested by tag, and came with their digest, do not seem to be a manifest. They may
// be of any type, and need not be JSON, but must not be empty, a page or an error. JSON
// objects and markup of a vague type count as one of these, unless they have the fields of
// a manifest.
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

// CheckUnnamed is like [CheckNamed], for contents that came without a digest. They must have
// the fields of a manifest, and not the media type of a page.
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

// looksLikePage reports whether a text begins like a page.
func looksLikePage(text string) bool {
	for _, start := range []string{"<!doctype html", "<html"} {
		if len(text) >= len(start) && strings.EqualFold(text[:len(start)], start) {
			return true
		}
	}
	return false
}

// signs has the indications of what contents are.
type signs struct {
	isObject   bool
	isManifest bool   // they have a field that only manifests have
	isError    bool   // they have a field that errors have
	mediaType  string // the value of the field mediaType; may be empty
}

// read returns the signs of a text, which need not be JSON. A field whose value has another
// type than in a manifest is no sign of one. Apart from that, read ignores values.
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
