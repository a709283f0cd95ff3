package ociserver_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ocimem"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociauth"
	"github.com/seed-40b21970/oci/ociserver"
)

// Everyone may pull, and clients with the password may do everything. The answer to the
// ping tells clients to send credentials.
func ExampleAuthorizeFunc_basic() {
	password := sha256.Sum256([]byte("opensesame"))
	authorize := func(req *http.Request, want []ociserver.Access) (func(ociserver.Access) bool, error) {
		_, given, _ := req.BasicAuth()
		sum := sha256.Sum256([]byte(given)) // so that the time tells not even the length
		known := subtle.ConstantTimeCompare(sum[:], password[:]) == 1
		may := func(a ociserver.Access) bool {
			return known || a.Action == ociserver.ActionPull
		}
		allowed := known || len(want) > 0
		for _, access := range want {
			allowed = allowed && may(access)
		}
		if !allowed {
			return nil, ociserver.Unauthorized(`Basic realm="example"`)
		}
		return may, nil
	}
	srv := httptest.NewServer(ociserver.New(ocimem.New(), &ociserver.Options{Authorize: authorize}))
	defer srv.Close()

	manifest := srv.URL + "/v2/hello/manifests/latest"
	request("GET", srv.URL+"/v2/", "")
	request("PUT", manifest, "hello world")
	request("PUT", manifest, "hello world", "Authorization", "Basic YWxpOm9wZW5zZXNhbWU=")
	request("GET", manifest, "")
	// Output:
	// 401 Unauthorized {"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}
	// 401 Unauthorized {"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}
	// 201 Created
	// 200 OK hello world
}

// tokens issues bearer tokens, and checks them. Both can be in different programs, if they
// have the same key. What a token permits is signed with it.
type tokens struct{ key []byte }

// claims are what a token permits.
type claims struct {
	Expires time.Time          `json:"expires"`
	Access  []ociserver.Access `json:"access"`
}

func (t tokens) sign(payload string) string {
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(payload))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// ServeHTTP is the token server: a client asks for scopes, such as
// repository:hello:pull,push, and gets a token for those that it may have. Here, ali may do
// everything, and everyone may pull.
func (t tokens) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, given := req.BasicAuth()
	known := user == "ali" && subtle.ConstantTimeCompare([]byte(password), []byte("opensesame")) == 1
	if given && !known {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	c := claims{Expires: time.Now().Add(5 * time.Minute)}
	for _, text := range req.URL.Query()["scope"] {
		for scope := range ociauth.ParseScope(text).Iter() {
			if a := accessOf(scope); known || a.Action == ociserver.ActionPull {
				c.Access = append(c.Access, a)
			}
		}
	}
	text, _ := json.Marshal(c)
	payload := base64.RawURLEncoding.EncodeToString(text)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"token": payload + "." + t.sign(payload), "expires_in": 300})
}

// accessOf returns what a scope permits.
func accessOf(scope ociauth.ResourceScope) ociserver.Access {
	if scope == ociauth.CatalogScope {
		return ociserver.Access{Action: ociserver.ActionList}
	}
	return ociserver.Access{Repository: scope.Resource, Action: ociserver.Action(scope.Action)}
}

// scopeOf returns the scope to ask for, to be permitted something.
func scopeOf(a ociserver.Access) string {
	switch a.Action {
	case ociserver.ActionList:
		return ociauth.CatalogScope.ResourceType + ":catalog:*"
	case ociserver.ActionPush: // who pushes looks first what is there
		return "repository:" + a.Repository + ":pull,push"
	}
	return "repository:" + a.Repository + ":" + string(a.Action)
}

// parse returns what a token permits, or false if it is none, or is too old.
func (t tokens) parse(token string) (c claims, ok bool) {
	payload, signature, _ := strings.Cut(token, ".")
	if !hmac.Equal([]byte(signature), []byte(t.sign(payload))) {
		return c, false
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	return c, err == nil && json.Unmarshal(text, &c) == nil && time.Now().Before(c.Expires)
}

// authorize is the hook of the registry. Without a token that permits what a request wants, it
// says where to get one, and for which scopes.
func (t tokens) authorize(realm string) ociserver.AuthorizeFunc {
	return func(req *http.Request, want []ociserver.Access) (func(ociserver.Access) bool, error) {
		token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
		c, ok := t.parse(token)
		may := func(a ociserver.Access) bool { return slices.Contains(c.Access, a) }
		var scopes []string
		for _, a := range want {
			ok = ok && may(a)
			scopes = append(scopes, scopeOf(a))
		}
		if !ok {
			challenge := fmt.Sprintf(`Bearer realm=%q,service="example"`, realm)
			if len(scopes) > 0 { // the ping wants nothing
				challenge += fmt.Sprintf(",scope=%q", strings.Join(scopes, " "))
			}
			return nil, ociserver.Unauthorized(challenge)
		}
		return may, nil
	}
}

// credentials are the same for every registry.
type credentials ociauth.ConfigEntry

func (c credentials) EntryForRegistry(string) (ociauth.ConfigEntry, error) {
	return ociauth.ConfigEntry(c), nil
}

// A token server beside a registry. Clients send their passwords to the token server alone,
// and get a token that permits a few things for a few minutes. The registry knows no users.
func ExampleAuthorizeFunc_bearer() {
	t := tokens{key: []byte("a secret of at least 32 random bytes")}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	mux.Handle("/token", t)
	mux.Handle("/v2/", ociserver.New(ocimem.New(), &ociserver.Options{Authorize: t.authorize(srv.URL + "/token")}))

	client := func(entry ociauth.ConfigEntry) ociregistry.Interface {
		reg, err := ociclient.New(strings.TrimPrefix(srv.URL, "http://"), &ociclient.Options{
			Insecure: true,
			Transport: ociauth.NewStdTransport(ociauth.StdTransportParams{
				Config: credentials(entry),
			}),
		})
		if err != nil {
			panic(err)
		}
		return reg
	}
	ctx := context.Background()
	ali := client(ociauth.ConfigEntry{Username: "ali", Password: "opensesame"})
	everyone := client(ociauth.ConfigEntry{})

	desc, err := ali.PushManifest(ctx, "hello", "latest", []byte("hello world"), "text/plain")
	fmt.Println("ali pushes:", desc.Size, err)
	desc, err = everyone.ResolveTag(ctx, "hello", "latest")
	fmt.Println("everyone pulls:", desc.Size, err)
	_, err = everyone.PushManifest(ctx, "hello", "latest", []byte("bye"), "text/plain")
	fmt.Println("everyone may not push:", errors.Is(err, ociregistry.ErrUnauthorized))
	// Output:
	// ali pushes: 11 <nil>
	// everyone pulls: 11 <nil>
	// everyone may not push: true
}
