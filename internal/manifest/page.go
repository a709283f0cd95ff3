package manifest

import "mime"

// IsPage reports whether a media type is that of a page for a browser, which gateways
// answer with in place of what was asked for.
func IsPage(mediaType string) bool {
	base, _, _ := mime.ParseMediaType(mediaType)
	return base == "text/html" || base == "application/xhtml+xml"
}
