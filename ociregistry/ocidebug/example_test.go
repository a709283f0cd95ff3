package ocidebug_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry/ocidebug"
)

func ExampleNew() {
	// In a test, pass t.Logf.
	r := ocidebug.New(ocimem.New(), func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		before, _, _ := strings.Cut(line, " duration=") // it differs from run to run
		fmt.Println(before)
	})
	ctx := context.Background()
	if _, err := r.PushManifest(ctx, "app", "v1", []byte("hello"), "text/plain"); err != nil {
		fmt.Println(err)
	}
	for range r.Tags(ctx, "app", "") {
	}

	// Output:
	// msg=PushManifest repository=app ref=v1 size=5 mediaType=text/plain digest=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
	// msg=Tags repository=app count=1
}

func ExampleNewWithLogger() {
	logger := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "duration" {
				return slog.Attr{} // they differ from run to run
			}
			return a
		},
	}))
	r := ocidebug.NewWithLogger(ocimem.New(), logger)
	r.ResolveTag(context.Background(), "app", "v1")

	// Output:
	// {"level":"INFO","msg":"ResolveTag","repository":"app","tag":"v1","error":"ResolveTag app:v1: name unknown: repository name not known to registry"}
}
