package wire

import "strings"

// NextLink returns the Link header that names the next page of a list
// (RFC 8288). The target is a URL or a relative reference.
func NextLink(target string) string {
	return "<" + target + `>; rel="next"`
}

// ParseNextLink returns the target of the first link with the relation "next" in the
// values of a response's Link headers, without resolving it. It skips malformed links, and
// those with an anchor, whose context is not the response.
func ParseNextLink(values []string) (target string, ok bool) {
	for _, s := range values {
		for s != "" {
			var l link
			l, s = parseLink(s)
			if l.target != "" && !l.anchored && hasRelation(l.rel, "next") {
				return l.target, true
			}
		}
	}
	return "", false
}

type link struct {
	target   string
	rel      string
	anchored bool
}

func hasRelation(rel, want string) bool {
	for _, r := range strings.Fields(rel) {
		if strings.EqualFold(r, want) {
			return true
		}
	}
	return false
}

// parseLink parses the first link of a list, and returns the rest of the list. A malformed
// link has no target.
func parseLink(s string) (l link, rest string) {
	s = strings.TrimLeft(s, " \t,")
	if !strings.HasPrefix(s, "<") {
		return link{}, skipElement(s)
	}
	target, s, ok := strings.Cut(s[1:], ">")
	if !ok {
		return link{}, ""
	}
	l.target = target
	seenRel := false
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == ',' {
			return l, s
		}
		if s[0] != ';' {
			return link{}, skipElement(s)
		}
		var name, value string
		name, value, s, ok = parseParam(s[1:])
		if !ok {
			return link{}, skipElement(s)
		}
		switch {
		case strings.EqualFold(name, "rel") && !seenRel:
			l.rel, seenRel = value, true // the first one counts
		case strings.EqualFold(name, "anchor"):
			l.anchored = true
		}
	}
}

// parseParam parses a parameter of a link, which may lack a value, or be empty.
func parseParam(s string) (name, value, rest string, ok bool) {
	name, s = cutToken(strings.TrimLeft(s, " \t"))
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, "=") {
		return name, "", s, true
	}
	s = strings.TrimLeft(s[1:], " \t")
	if strings.HasPrefix(s, `"`) {
		value, s, ok = cutQuoted(s)
		return name, value, s, ok
	}
	value, s = cutToken(s)
	return name, value, s, true
}

// cutToken cuts the text before a delimiter from the beginning of s. It accepts more than
// the tokens of RFC 9110, section 5.6.2.
func cutToken(s string) (token, rest string) {
	if i := strings.IndexAny(s, " \t=;,\""); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// cutQuoted cuts a quoted string from the beginning of s (RFC 9110, section 5.6.4).
func cutQuoted(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			i++
			if i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// skipElement returns the text after the next comma that is not quoted, which is the next
// element of a list (RFC 9110, section 5.6.1).
func skipElement(s string) (rest string) {
	for s != "" {
		i := strings.IndexAny(s, `,"`)
		if i < 0 {
			return ""
		}
		if s[i] == ',' {
			return s[i+1:]
		}
		var ok bool
		if _, s, ok = cutQuoted(s[i:]); !ok {
			return ""
		}
	}
	return ""
}
