package ocifilter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

// A registry that teams share, and the view of it that each of them gets.
func ExampleSub() {
	ctx := context.Background()
	shared := ocimem.New()
	team := ocifilter.Sub(shared, "team/blue")
	if _, err := team.PushManifest(ctx, "app", "v1", []byte("hello"), "text/plain"); err != nil {
		fmt.Println(err)
	}

	for repo := range team.Repositories(ctx, "") {
		fmt.Println("the team has", repo)
	}
	for repo := range shared.Repositories(ctx, "") {
		fmt.Println("all have", repo)
	}
	_, err := team.ResolveTag(ctx, "../red/app", "v1")
	fmt.Println(errors.Is(err, ociregistry.ErrNameInvalid))

	// Output:
	// the team has app
	// all have team/blue/app
	// true
}

func ExampleSelect() {
	ctx := context.Background()
	all := ocimem.New()
	for _, repo := range []string{"public/app", "private/app"} {
		if _, err := all.PushManifest(ctx, repo, "v1", []byte("hello"), "text/plain"); err != nil {
			fmt.Println(err)
		}
	}

	public := ocifilter.ReadOnly(ocifilter.Select(all, func(repo string) bool {
		return strings.HasPrefix(repo, "public/")
	}))
	for repo := range public.Repositories(ctx, "") {
		fmt.Println(repo)
	}
	_, err := public.ResolveTag(ctx, "private/app", "v1")
	fmt.Println(err)

	// Output:
	// public/app
	// ResolveTag private/app:v1: name unknown: repository name not known to registry
}

func ExampleImmutable() {
	ctx := context.Background()
	r := ocifilter.Immutable(ocimem.New())
	push := func(tag, contents string) {
		_, err := r.PushManifest(ctx, "app", tag, []byte(contents), "text/plain")
		fmt.Println(tag, errors.Is(err, ociregistry.ErrDenied))
	}
	push("v1", "hello")
	push("v1", "hello") // again
	push("v1", "goodbye")
	push("v2", "goodbye")

	// Output:
	// v1 false
	// v1 false
	// v1 true
	// v2 false
}

func ExampleQuota() {
	ctx := context.Background()
	r, err := ocifilter.Quota(ocimem.New(), []ocifilter.QuotaRule{{Prefix: "team/blue", MaxBytes: 10}})
	if err != nil {
		fmt.Println(err)
		return
	}
	push := func(repo, contents string) {
		_, err := r.PushManifest(ctx, repo, "v1", []byte(contents), "text/plain")
		fmt.Println(err)
	}
	push("team/blue/app", "hello")
	push("team/blue/other", "hello again")
	push("team/red", "hello again")

	// Output:
	// <nil>
	// PushManifest team/blue/other:v1: denied: requested access to the resource is denied: the quota of team/blue is 10 bytes; 5 are used, and 11 more do not fit
	// <nil>
}
