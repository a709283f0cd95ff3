package ociregistry_test

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

func TestCheckMediaType(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("x", 127)
	for _, good := range []string{
		"text/plain",
		"TEXT/Plain",
		"application/vnd.oci.image.manifest.v1+json",
		"x/y",
		"a!#$%&'*+-.^_`|~/0",
		name + "/" + name,
		"text/plain;charset=utf-8",
		"text/plain ; charset=utf-8\t;x=y",
		`text/plain; charset="utf-8"; x="a;b, \"c\" \\"`,
		`text/plain; x=""`,
		"text/plain;",
		"text/plain; ;x=y;",
	} {
		qt.Check(t, qt.IsNil(ociregistry.CheckMediaType(good)), qt.Commentf("%q", good))
	}
	for _, bad := range []string{
		"", " ", "json", "/", "text", "text/", "/plain", "text/plain/x", "text /plain", "text/ plain", " text/plain",
		"text/html,json", "text/html, application/json", "text/html json", "text/ht\x00ml", "text/plain\n", "text/plain\r\nX: y", "text/plän", "text/\xff", "text/\x7f",
		"text/plain;x", "text/plain;=y", "text/plain;x=", "text/plain;x =y", "text/plain;x= y", "text/plain;x=y z", `text/plain;x="`, `text/plain;x="\`, `text/plain;x="a"b`, "text/plain;x=\"\n\"", "text/plain;x=ä", ";x=y",
		name + "x/y", "x/" + name + "y",
		"text/plain;x=" + strings.Repeat("y", 1024),
	} {
		qt.Check(t, qt.ErrorIs(ociregistry.CheckMediaType(bad), ociregistry.ErrManifestInvalid), qt.Commentf("%q", bad))
	}
}

func TestCheckMediaTypeAllocatesNothing(t *testing.T) {
	qt.Check(t, qt.Equals(testing.AllocsPerRun(10, func() {
		ociregistry.CheckMediaType("application/vnd.oci.image.manifest.v1+json")
		ociregistry.CheckMediaType("json")
	}), 0))
}
