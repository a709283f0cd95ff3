package main

import (
	"cmp"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// pagePatterns match the rows of the committed page, which takes some ten minutes.
var pagePatterns = []string{
	`BlobPush/size=(4KiB/clients=16|32MiB/clients=1)`,
	`BlobPushCold/size=4KiB/clients=1`,
	`BlobPull/size=(4KiB/clients=16|32MiB/clients=1)`,
	`Manifest(Put|Get)/clients=16`,
	`ReopenGet/tags=1000/.*`,
	`.*/tags=100000/.*`,
	`(RepoPage|ReopenRepoPage)/.*`,
	`Image(Push|Pull)/.*/clients=10`,
	`Cache.*/clients=16`,
	`Bucket.*`,
	`Library(Pull|Push)/.*`,
	`LibraryResolve/.*`,
}

var pageRows = regexp.MustCompile("^(" + strings.Join(pagePatterns, "|") + ")$")

// peers are the modules of those that are measured, as the page names their versions.
var peers = []string{
	"cuelabs.dev/go/oci/ociregistry",
	"github.com/distribution/distribution/v3",
	"github.com/google/go-containerregistry",
	"github.com/olareg/olareg",
	"github.com/regclient/regclient",
	"oras.land/oras-go/v2",
}

// writeHead says what was measured: when, where, and with which versions.
func (r *results) writeHead(b *strings.Builder) {
	fmt.Fprintf(b, "# This library beside others\n\nMeasured by `go run . %s` in internal/bench, on %s in %v.\n\n",
		strings.Join(r.args, " "), r.began.Format(time.DateOnly), time.Since(r.began).Round(time.Second))
	fmt.Fprintf(b, "- %s/%s, %s, %d cores, GOMAXPROCS %d, %s, content on %s\n",
		runtime.GOOS, runtime.GOARCH, cpuModel(), runtime.NumCPU(), runtime.GOMAXPROCS(0), runtime.Version(),
		filesystem(cmp.Or(r.dir, os.TempDir())))
	fmt.Fprintf(b, "- samples of each: %d\n- %s\n", r.counts, strings.Join(versions(), ", "))
	for _, note := range r.notes {
		fmt.Fprintf(b, "- %s\n", note)
	}
}

// versions returns the versions of the peers and of the store.
func versions() []string {
	var found []string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if slices.Contains(peers, m.Path) {
				found = append(found, m.Path+" "+m.Version)
			}
		}
	}
	for _, program := range []string{zotProgram, storeProgram} {
		if path, err := exec.LookPath(program); err == nil {
			if info, err := buildinfo.ReadFile(path); err == nil {
				found = append(found, program+" "+info.Main.Version)
			}
		}
	}
	return found
}
