package wire

import (
	"strings"

	"github.com/seed-40b21970/oci/internal/httpfield"
)

// Challenge is a challenge in a response's WWW-Authenticate headers (RFC 9110,
// section 11.3). It has parameters, a token68, or neither.
type Challenge struct {
	Scheme  string            // in lower case
	Params  map[string]string // the keys are in lower case
	Token68 string
}

// ParseChallenges returns the challenges in the values of WWW-Authenticate headers, each of
// which can have several. The first of a repeated parameter counts. Parameters that
// RFC 9110 requires to be quoted need not be, since some registries do not quote URLs.
// ParseChallenges skips other malformed challenges.
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

// cutChallenge cuts a challenge from the beginning of s. The rest is empty or begins with
// a comma.
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

// cutAuthParams cuts parameters from the beginning of s, up to the next challenge. It
// returns nil if there are none.
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

// cutToken68 cuts a token68 (RFC 9110, section 11.2) and the white space after it from the
// beginning of s.
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

// cutStrictToken cuts a token from the beginning of s (RFC 9110, section 5.6.2).
func cutStrictToken(s string) (token, rest string) {
	end := httpfield.TokenLen(s)
	return s[:end], s[end:]
}

func atElementEnd(s string) bool { return s == "" || s[0] == ',' }

func isToken68(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || strings.IndexByte("-._~+/", c) >= 0
}
