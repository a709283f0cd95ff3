package ociserver

import (
	"log/slog"
	"strings"
)

// noteAccept logs that a client gets a manifest of a type that its Accept
// headers exclude. The request is not refused, because many clients do not list
// all that they can read.
func (x *exchange) noteAccept(mediaType string) {
	accept := x.req.Header["Accept"]
	if len(accept) == 0 || !x.opts.Logger.Enabled(x.ctx(), slog.LevelInfo) || accepts(accept, mediaType) {
		return
	}
	x.log(slog.LevelInfo, "manifest of a type that the client does not accept", slog.String("mediaType", mediaType))
}

// accepts reports whether Accept headers with these values include mediaType (RFC
// 9110, section 12.5.1).
func accepts(values []string, mediaType string) bool {
	mainType, _, _ := strings.Cut(mediaType, "/")
	for _, value := range values {
		for elem := range strings.SplitSeq(value, ",") {
			pattern, params, _ := strings.Cut(elem, ";")
			pattern = strings.TrimSpace(pattern)
			matches := pattern == "*/*" || strings.EqualFold(pattern, mediaType) || strings.EqualFold(pattern, mainType+"/*")
			if matches && !refused(params) {
				return true
			}
		}
	}
	return false
}

// refused reports whether the parameters of a media range give it the weight 0.
func refused(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(name, "q") {
			return strings.Trim(value, "0.") == ""
		}
	}
	return false
}
