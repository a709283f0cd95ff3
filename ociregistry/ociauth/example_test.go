package ociauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociserver"
)

// This client uses the credentials that docker login and podman login have stored.
func Example() {
	config, err := ociauth.Load(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{
		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{Config: config}),
	}
	resp, err := client.Get("https://registry.example.com/v2/team/app/tags/list")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
}

// staticConfig has one entry for every registry.
type staticConfig ociauth.ConfigEntry

func (c staticConfig) EntryForRegistry(host string) (ociauth.ConfigEntry, error) {
	return ociauth.ConfigEntry(c), nil
}

// Credentials can come from anywhere.
func ExampleConfig() {
	registry := httptest.NewServer(ociserver.New(ocimem.New(), &ociserver.Options{
		Authorize: func(req *http.Request, _ []ociserver.Access) (func(ociserver.Access) bool, error) {
			if user, password, _ := req.BasicAuth(); user != "gopher" || password != "burrow" {
				return nil, ociserver.Unauthorized("")
			}
			return nil, nil
		},
	}))
	defer registry.Close()

	client := &http.Client{
		Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{
			Config: staticConfig{Username: "gopher", Password: "burrow"},
		}),
	}
	resp, err := client.Get(registry.URL + "/v2/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// 200 OK
}

// A program that reads before it pushes asks for a token for both in advance.
func ExampleContextWithScope() {
	ctx := ociauth.ContextWithScope(context.Background(), ociauth.NewScope(
		ociauth.ResourceScope{ResourceType: ociauth.TypeRepository, Resource: "team/app", Action: ociauth.ActionPull},
		ociauth.ResourceScope{ResourceType: ociauth.TypeRepository, Resource: "team/app", Action: ociauth.ActionPush},
	))
	fmt.Println(ociauth.ScopeFromContext(ctx))
	// Output:
	// repository:team/app:pull,push
}

func ExampleScope_Contains() {
	token := ociauth.ParseScope("repository:team/app:pull,push repository:base:pull")
	fmt.Println(token.Contains(ociauth.ParseScope("repository:team/app:push")))
	fmt.Println(token.Contains(ociauth.ParseScope("repository:base:push")))
	// Output:
	// true
	// false
}

func ExampleConfigFile_EntryForRepository() {
	config, err := ociauth.LoadWithEnv(nil, []string{
		`DOCKER_AUTH_CONFIG={"auths": {
			"registry.example.com":      {"username": "reader", "password": "r"},
			"registry.example.com/team": {"username": "writer", "password": "w"}
		}}`,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, repo := range []string{"team/app", "elsewhere"} {
		entry, err := config.EntryForRepository("registry.example.com", repo)
		fmt.Println(entry, err)
	}
	// Output:
	// username "writer", password <nil>
	// username "reader", password <nil>
}
