package ociref

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

var hostTests = []validTest{
	{"example.com", true},
	{"example.com:5000", true},
	{"a.b", true},
	{"a.b.c.d.e", true},
	{"sub-domain.example.com", true},
	{"xn--bcher-kva.example", true},
	{"a--b.c", true},
	{"Example.COM", true},
	{"localhost", true},
	{"localhost:5000", true},
	{"registry:5000", true},
	{"REGISTRY", true},
	{"Registry", true},
	{strings.Repeat("a.", 127) + "a", true},
	{strings.Repeat("a.", 127) + "a:65535", true},
	{strings.Repeat("a.", 127) + "ab", false},

	// These could be the first element of a repository as well.
	{"registry", false},
	{"localhosts", false},
	{"localhost2", false},
	{"a-b", false},
	{"10", false},

	{"", false},
	{".", false},
	{"..", false},
	{".com", false},
	{"example.", false},
	{"example..com", false},
	{"-a.com", false},
	{"a-.com", false},
	{"a.-com", false},
	{"a.com-", false},
	{"a_b.com", false},
	{"a b.com", false},
	{"bücher.example", false},
	{"example.com/", false},
	{"user@example.com", false},
	{"example.com\n", false},
	{"https://example.com", false},

	{"192.0.2.1", true},
	{"192.0.2.1:5000", true},

	{"example.com:0", true},
	{"example.com:65535", true},
	{"example.com:00443", true},
	{"example.com:65536", false},
	{"example.com:99999", false},
	{"example.com:000443", false},
	{"example.com:18446744073709551617", false},
	{"example.com:", false},
	{"example.com:http", false},
	{"example.com:-1", false},
	{"example.com:+1", false},
	{"example.com:80:80", false},
	{":5000", false},
	{"example.\u212aom", false}, // the sign of Kelvin, whose lower case is k

	{"[::]", true},
	{"[::1]", true},
	{"[::1]:5000", true},
	{"[1::]", true},
	{"[2001:db8::ABCD:ef]", true},
	{"[1:2:3:4:5:6:7:8]:443", true},
	{"[1::3:4:5:6:7:8]", true},
	{"[1:2:3:4:5:6:7::]", true},
	{"[::2:3:4:5:6:7:8]", true},
	{"[1:2:3:4:5:6:7]", false},
	{"[1:2:3:4:5:6:7:8:9]", false},
	{"[1:2:3:4::5:6:7:8]", false},
	{"[1:2:3:4:5:6:7:8::]", false},
	{"[:]", false},
	{"[:::]", false},
	{"[:1]", false},
	{"[1:]", false},
	{"[1::2::3]", false},
	{"[12345::]", false},
	{"[g::]", false},
	{"[fe80::1%eth0]", false},
	{"[::ffff:192.0.2.1]", false},
	{"[192.0.2.1]", false},
	{"[abcd]", false},
	{"[]", false},
	{"[", false},
	{"[::1", false},
	{"::1", false},
	{"[::1]5000", false},
	{"[::1]:", false},
	{"[::1]:65536", false},
	{"[[::1]]", false},
	{"[::1].com", false},
}

func TestIsValidHost(t *testing.T) {
	t.Parallel()
	for _, test := range hostTests {
		qt.Check(t, qt.Equals(IsValidHost(test.s), test.want), qt.Commentf("%q", test.s))
	}
}

// hostRegexp splits a host into address, name and port.
var hostRegexp = regexp.MustCompile(`^(?:\[([0-9a-fA-F:]+)\]|([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*))(?::([0-9]{1,5}))?$`)

func FuzzIsValidHost(f *testing.F) {
	for _, test := range hostTests {
		f.Add(test.s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		qt.Assert(t, qt.Equals(IsValidHost(s), isValidHostByLibrary(s)))
	})
}

// isValidHostByLibrary is IsValidHost by means of packages.
func isValidHostByLibrary(s string) bool {
	m := hostRegexp.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	addr, name, port := m[1], m[2], m[len(m)-1]
	if port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
	}
	if addr != "" {
		_, err := netip.ParseAddr(addr)
		return err == nil
	}
	return len(name) <= 255 &&
		(port != "" || name == "localhost" || strings.ContainsAny(name, ".ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
}
