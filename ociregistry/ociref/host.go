package ociref

import "strings"

// maxDomainName is the length limit of a domain name in bytes (RFC 1035,
// section 2.3.4).
const maxDomainName = 255

const hostProblem = "is not a domain name, IPv4 address or IPv6 address in brackets, with an optional port up to 65535"

// IsValidHost reports whether s is a host, with or without a port, that a
// reference can begin with:
//
//   - a domain name: letters, digits and hyphens in labels that neither begin
//     nor end with a hyphen, joined by periods, 255 bytes at most;
//   - an IPv4 address;
//   - an IPv6 address in brackets, without a zone and without an IPv4 address
//     inside;
//   - any of them and ":PORT", where the port is 1 to 5 digits and at most 65535.
//
// A name without a port is a host only if it has a period or an upper-case letter, or is
// "localhost". With a port, any name is a host. By this rule, which is Docker's,
// "example.com/app" begins with a host and "user/app" does not.
func IsValidHost(s string) bool {
	if v6, ok := strings.CutPrefix(s, "["); ok {
		addr, port, ok := strings.Cut(v6, "]")
		return ok && isIPv6(addr) && (port == "" || port[0] == ':' && isPort(port[1:]))
	}
	name, port, hasPort := strings.Cut(s, ":")
	if !isDomainName(name) {
		return false
	}
	if hasPort {
		return isPort(port)
	}
	return name == "localhost" || strings.Contains(name, ".") || hasUpper(name)
}

// isPort reports whether s is a port number.
func isPort(s string) bool {
	if s == "" || len(s) > len("65535") {
		return false
	}
	port := 0
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
		port = 10*port + int(s[i]-'0')
	}
	return port <= 65535
}

// isDomainName reports whether s is a domain name or an IPv4 address, which
// looks like one.
func isDomainName(s string) bool {
	if len(s) > maxDomainName {
		return false
	}
	for more := true; more; {
		var label string
		label, s, more = strings.Cut(s, ".")
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// isLabel reports whether s is one label of a domain name.
func isLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isLower(c) && !isUpper(c) && !isDigit(c) && c != '-' {
			return false
		}
	}
	return s != "" && s[0] != '-' && s[len(s)-1] != '-'
}

// isIPv6 reports whether s is an IPv6 address in hexadecimal: eight groups, of which "::"
// stands for one or more (RFC 4291, section 2.2, forms 1 and 2). Package [net/netip] is
// not used because it allocates an error for each string that is not an address.
func isIPv6(s string) bool {
	head, tail, compressed := strings.Cut(s, "::")
	if !compressed {
		return hexGroups(s) == 8
	}
	n, m := 0, 0
	if head != "" {
		if n = hexGroups(head); n == 0 {
			return false
		}
	}
	if tail != "" {
		if m = hexGroups(tail); m == 0 {
			return false
		}
	}
	return n+m < 8
}

// hexGroups returns the number of groups of 1 to 4 hexadecimal digits that
// colons join to make s, or 0 if s is anything else.
func hexGroups(s string) int {
	n := 0
	for more := true; more; n++ {
		var group string
		group, s, more = strings.Cut(s, ":")
		if len(group) < 1 || len(group) > 4 {
			return 0
		}
		for i := range len(group) {
			if c := group[i] | 0x20; !isDigit(group[i]) && (c < 'a' || 'f' < c) {
				return 0
			}
		}
	}
	return n
}

func hasUpper(s string) bool {
	for i := range len(s) {
		if isUpper(s[i]) {
			return true
		}
	}
	return false
}
