package interop

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// authScheme is how a registry wants to be authenticated to.
type authScheme string

const (
	anonymous authScheme = "anonymous"
	basic     authScheme = "basic"
	bearer    authScheme = "bearer"
)

// access is what a registry asks of its clients.
type access struct {
	scheme authScheme
	tokens *tokenServer // for bearer
}

const (
	user         = "us"
	password     = "secret"
	passwordHash = "$2a$04$3mIczI18suZKTqnk5Mr3auXAj4laecWE6KxVdhD7VANnHMMunqtSy" // by bcrypt

	tokenService = "registry.example.com"
	tokenIssuer  = "the tests"
	tokenKeyID   = "key"
)

// tokenServer gives tokens for whatever it is asked for by someone who has the
// password: JSON web tokens as Docker's specification of them has it, signed by a
// key that registries can trust.
type tokenServer struct {
	url string
	key ed25519.PrivateKey

	mu     sync.Mutex
	scopes []string // that were asked for, one for each token
}

func newTokenServer(t testing.TB) *tokenServer {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &tokenServer{key: key}
}

func (s *tokenServer) realm() string { return s.url + "/token" }

// keys returns the key as a JSON web key set (RFC 7517, RFC 8037).
func (s *tokenServer) keys() string {
	x := base64.RawURLEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey))
	return fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":%q,"x":%q}]}`, tokenKeyID, x)
}

// given returns the scopes of the tokens that were given since the last call.
func (s *tokenServer) given() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	scopes := s.scopes
	s.scopes = nil
	return scopes
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	name, pass, _ := req.BasicAuth()
	switch {
	case req.URL.Path != "/token":
		http.NotFound(w, req)
		return
	case req.Method != http.MethodGet:
		http.Error(w, "there are no refresh tokens here", http.StatusMethodNotAllowed)
		return
	case name != user || pass != password || req.FormValue("service") != tokenService:
		http.Error(w, "wrong user, password or service", http.StatusUnauthorized)
		return
	}
	scopes := strings.Fields(strings.Join(req.Form["scope"], " "))
	s.mu.Lock()
	s.scopes = append(s.scopes, strings.Join(scopes, " "))
	s.mu.Unlock()
	json.NewEncoder(w).Encode(map[string]any{"token": s.sign(scopes), "expires_in": 300})
}

// grant is a part of what a token allows.
type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

type claims struct {
	Issuer   string  `json:"iss"`
	Subject  string  `json:"sub"`
	Audience string  `json:"aud"`
	Expires  int64   `json:"exp"`
	Begins   int64   `json:"nbf"`
	Access   []grant `json:"access"`
}

// sign returns a token for scopes (RFC 7519, RFC 7515).
func (s *tokenServer) sign(scopes []string) string {
	now := time.Now()
	c := claims{tokenIssuer, user, tokenService, now.Add(5 * time.Minute).Unix(), now.Unix(), []grant{}}
	for _, scope := range scopes {
		parts := strings.SplitN(scope, ":", 3)
		c.Access = append(c.Access, grant{parts[0], parts[1], strings.Split(parts[2], ",")})
	}
	encode := func(v any) string {
		data, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(data)
	}
	signed := encode(map[string]string{"typ": "JWT", "alg": "EdDSA", "kid": tokenKeyID}) + "." + encode(c)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(s.key, []byte(signed)))
}

// verify returns what a token allows.
func (s *tokenServer) verify(token string) ([]grant, error) {
	i := max(strings.LastIndex(token, "."), 0)
	signature, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token[i:], "."))
	if err != nil || !ed25519.Verify(s.key.Public().(ed25519.PublicKey), []byte(token[:i]), signature) {
		return nil, errors.New("bad token")
	}
	_, payload, _ := strings.Cut(token[:i], ".")
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return nil, err
	}
	var c claims
	err = json.Unmarshal(data, &c)
	return c.Access, err
}

// guard authenticates the clients of a registry that does not do so itself.
func guard(a access, registry http.Handler) http.Handler {
	if a.scheme == anonymous {
		return registry
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		challenge := a.refuse(req)
		if challenge == "" {
			registry.ServeHTTP(w, req)
			return
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	})
}

// refuse returns the challenge for a request that is not allowed, and else "".
func (a access) refuse(req *http.Request) string {
	if a.scheme == basic {
		if name, pass, _ := req.BasicAuth(); name == user && pass == password {
			return ""
		}
		return `Basic realm="registry"`
	}
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	grants, err := a.tokens.verify(token)
	want := wanted(req)
	if err == nil && !slices.ContainsFunc(want, func(g grant) bool { return !allowed(grants, g) }) {
		return ""
	}
	var scopes []string
	for _, g := range want {
		scopes = append(scopes, g.Type+":"+g.Name+":"+strings.Join(g.Actions, ","))
	}
	return fmt.Sprintf(`Bearer realm=%q,service=%q,scope=%q`, a.tokens.realm(), tokenService, strings.Join(scopes, " "))
}

// wanted returns what a client needs to be allowed for a request.
func wanted(req *http.Request) []grant {
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	if path == "_catalog" {
		return []grant{{"registry", "catalog", []string{"*"}}}
	}
	repo := ""
	for _, what := range []string{"/blobs/", "/manifests/", "/tags/", "/referrers/"} {
		if before, _, ok := strings.Cut(path, what); ok {
			repo = before
		}
	}
	on := func(repo string, actions ...string) grant { return grant{"repository", repo, actions} }
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return []grant{on(repo, "pull")}
	case http.MethodDelete:
		if strings.Contains(path, "/uploads/") {
			return []grant{on(repo, "push")}
		}
		return []grant{on(repo, "delete")}
	}
	want := []grant{on(repo, "pull", "push")}
	if from := req.URL.Query().Get("from"); from != "" {
		want = append(want, on(from, "pull"))
	}
	return want
}

func allowed(grants []grant, want grant) bool {
	for _, action := range want.Actions {
		if !slices.ContainsFunc(grants, func(g grant) bool {
			return g.Type == want.Type && g.Name == want.Name && slices.Contains(g.Actions, action)
		}) {
			return false
		}
	}
	return true
}
