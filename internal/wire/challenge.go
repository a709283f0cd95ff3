package wire

import "strings"

// Challenge is one challenge of a response's WWW-Authenticate headers (RFC 9110,
// section 11.3). It has parameters or a token68, or neither.
type Challenge struct {
	Scheme  string            // in lower case
	Params  map[string]string // by their names in lower case
	Token68 string
}

// ParseChallenges returns the challenges in the values of WWW-Authenticate
// headers, each of which can have several. Of a parameter that is repeated, the
// first counts. Values need not be quoted where RFC 9110 says so, since some
// registries leave that out of URLs; what is not well formed beyond that is
// passed over.
func ParseChallenges(values []string) []Challenge {
	var list []Challenge
	for _, s := range values {
		for {
			s = strings.TrimLeft(s, " \t,")
			if s == "" {
				break
			}
			c, rest, ok := cutChallenge(s)
			if !ok {
				s = skipElement(s)
				continue
			}
			list = append(list, c)
			s = rest
		}
	}
	return list
}

// cutChallenge cuts the challenge that s begins with. The rest is empty or
// begins with a comma.
func cutChallenge(s string) (c Challenge, rest string, ok bool) {
	scheme, rest := cutStrictToken(s)
	after := strings.TrimLeft(rest, " \t")
	if scheme == "" || !atElementEnd(after) && len(after) == len(rest) {
		return Challenge{}, "", false
	}
	c.Scheme = strings.ToLower(scheme)
	if atElementEnd(after) {
		return c, after, true
	}
	if c.Params, rest = cutAuthParams(after); c.Params != nil {
		return c, rest, true
	}
	c.Token68, rest = cutToken68(after)
	return c, rest, c.Token68 != "" && atElementEnd(rest)
}

// cutAuthParams cuts the parameters that s begins with, up to the next
// challenge. There are none if it returns nil.
func cutAuthParams(s string) (params map[string]string, rest string) {
	rest = s
	for {
		name, value, after, ok := cutAuthParam(strings.TrimLeft(s, " \t,"))
		if !ok {
			return params, rest
		}
		if params == nil {
			params = make(map[string]string)
		}
		name = strings.ToLower(name)
		if _, repeated := params[name]; !repeated {
			params[name] = value
		}
		s, rest = after, after
	}
}

func cutAuthParam(s string) (name, value, rest string, ok bool) {
	name, s = cutStrictToken(s)
	s = strings.TrimLeft(s, " \t")
	if name == "" || !strings.HasPrefix(s, "=") {
		return "", "", "", false
	}
	s = strings.TrimLeft(s[1:], " \t")
	if strings.HasPrefix(s, `"`) {
		value, s, ok = cutQuoted(s)
	} else {
		end := strings.IndexAny(s, " \t,\"")
		if end < 0 {
			end = len(s)
		}
		value, s, ok = s[:end], s[end:], end > 0
	}
	s = strings.TrimLeft(s, " \t")
	return name, value, s, ok && atElementEnd(s)
}

// cutToken68 cuts a token68 (RFC 9110, section 11.2) and the white space behind
// it.
func cutToken68(s string) (token, rest string) {
	end := 0
	for end < len(s) && isToken68(s[end]) {
		end++
	}
	if end == 0 {
		return "", s
	}
	for end < len(s) && s[end] == '=' {
		end++
	}
	return s[:end], strings.TrimLeft(s[end:], " \t")
}

// cutStrictToken cuts the token that s begins with (RFC 9110, section 5.6.2).
func cutStrictToken(s string) (token, rest string) {
	end := 0
	for end < len(s) && isTokenByte(s[end]) {
		end++
	}
	return s[:end], s[end:]
}

func atElementEnd(s string) bool { return s == "" || s[0] == ',' }

func isTokenByte(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isToken68(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("-._~+/", c) >= 0
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}
