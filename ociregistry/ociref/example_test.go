package ociref_test

import (
	"fmt"

	"github.com/seed-40b21970/oci/ociregistry/ociref"
)

func ExampleParse() {
	ref, err := ociref.Parse("registry.example.com:5000/team/app:v1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ref.Host)
	fmt.Println(ref.Repository)
	fmt.Println(ref.Tag)
	// Output:
	// registry.example.com:5000
	// team/app
	// v1
}

func ExampleParse_error() {
	_, err := ociref.Parse("registry.example.com/team/App:v1")
	fmt.Println(err)
	_, err = ociref.Parse("team/app:v1")
	fmt.Println(err)
	// Output:
	// invalid reference "registry.example.com/team/App:v1": repository "team/App" has an upper-case letter
	// invalid reference "team/app:v1": no host before the repository
}

func ExampleParseRelative() {
	ref, err := ociref.ParseRelative("team/app:v1")
	if err != nil {
		fmt.Println(err)
		return
	}
	if ref.Host == "" {
		ref.Host = "registry.example.com"
	}
	fmt.Println(ref)
	// Output:
	// registry.example.com/team/app:v1
}

func ExampleParseDocker() {
	for _, s := range []string{"ubuntu", "user/app:v1", "localhost:5000/app"} {
		ref, err := ociref.ParseDocker(s)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(ref)
	}
	// Output:
	// docker.io/library/ubuntu:latest
	// docker.io/user/app:v1
	// localhost:5000/app:latest
}

func ExampleReferrersTag() {
	tag, err := ociref.ReferrersTag("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tag)
	// Output:
	// sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
}
