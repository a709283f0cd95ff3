package servers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// AzureTLS is an Azurite that is reached by TLS, and knows callers by tokens.
type AzureTLS struct {
	// URL is that of the account, whose host does not have its name in front.
	URL string
	// NamedURL is one whose host has, as those of Azure have. Only Client can reach it.
	NamedURL string
	// CertFile has its certificate.
	CertFile string
	// Client trusts its certificate.
	Client *http.Client
}

// NewAzureTLS starts Azurite, in which there is a container, and which takes the tokens of [AzureToken].
func NewAzureTLS(t testing.TB, container string) *AzureTLS {
	t.Helper()
	// Its certificate is for 127.0.0.1 and for all names in example.com.
	own := httptest.NewUnstartedServer(nil)
	own.StartTLS()
	defer own.Close()
	key, err := x509.MarshalPKCS8PrivateKey(own.TLS.Certificates[0].PrivateKey)
	must(t, err)
	certFile := pemFile(t, "CERTIFICATE", own.Certificate().Raw)
	url := azurite(t, "--oauth", "basic", "--cert", certFile, "--key", pemFile(t, "PRIVATE KEY", key))
	address := strings.TrimPrefix(url, "https://")
	_, port, err := net.SplitHostPort(address)
	must(t, err)

	roots := x509.NewCertPool()
	roots.AddCert(own.Certificate())
	transport := &http.Transport{
		IdleConnTimeout: azureIdle,
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	a := &AzureTLS{
		URL:      url + "/" + AzureAccount,
		NamedURL: "https://" + AzureAccount + ".example.com:" + port,
		CertFile: certFile,
		Client:   &http.Client{Transport: transport},
	}
	createContainer(t, a.Client, a.NamedURL+"/"+container, func(*http.Request) string {
		token, _ := AzureToken()
		return "Bearer " + token
	})
	return a
}

func pemFile(t testing.TB, kind string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pem")
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600))
	return path
}

// AzureToken returns a token that Azurite believes, as it does not look at signatures, and until
// when it is valid.
func AzureToken() (token string, expires time.Time) {
	now := time.Now()
	expires = now.Add(time.Hour)
	header, _ := json.Marshal(map[string]any{"alg": "none", "typ": "JWT"})
	claims, _ := json.Marshal(map[string]any{
		"aud": "https://storage.azure.com", "iss": "https://sts.windows.net/tenant/", "oid": "object", "tid": "tenant",
		"iat": now.Unix(), "nbf": now.Unix() - 60, "exp": expires.Unix(),
	})
	encode := base64.RawURLEncoding.EncodeToString
	return encode(header) + "." + encode(claims) + ".", expires
}

// AzureIdentity starts a server that gives out tokens as the one that Azure has on a machine, and
// returns the environment in which the program finds it.
func AzureIdentity(t testing.TB) map[string]string {
	t.Helper()
	const secret = "machine"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("X-Identity-Header") != secret || req.FormValue("resource") != "https://storage.azure.com" {
			http.Error(w, `{"statusCode":400,"message":"no such resource, or no secret"}`, http.StatusBadRequest)
			return
		}
		token, expires := AzureToken()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":"https://storage.azure.com","token_type":"Bearer"}`, token, expires.Unix())
	}))
	t.Cleanup(server.Close)
	return map[string]string{"IDENTITY_ENDPOINT": server.URL, "IDENTITY_HEADER": secret}
}
