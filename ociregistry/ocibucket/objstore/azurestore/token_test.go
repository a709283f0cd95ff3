package azurestore_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/servers"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/azurestore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/storetest"
)

// identity is a caller who has no shared key.
type identity struct{ err error }

func (i identity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, expires := servers.AzureToken()
	return azcore.AccessToken{Token: token, ExpiresOn: expires}, i.err
}

// fronted is a store whose URLs lead to its server by another one, to which anybody can talk.
type fronted struct {
	objstore.Store
	front string
}

func (f fronted) Presign(ctx context.Context, key string, opts objstore.PresignOptions) (string, error) {
	signed, err := f.Store.Presign(ctx, key, opts)
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(signed, "https://"), "/")
	return f.front + "/" + rest, nil
}

// TestContract_OnAzuriteWithTokens has no shared key: the keys for URLs are the service's.
func TestContract_OnAzuriteWithTokens(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) objstore.Store {
		azurite := servers.NewAzureTLS(t, "container")
		s, err := azurestore.New(azurestore.Options{
			Container: "container", URL: azurite.NamedURL, Account: servers.AzureAccount, Credential: identity{}, Transport: azurite.Client,
		})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(s.Capabilities().Presign))

		named, err := url.Parse(azurite.NamedURL)
		qt.Assert(t, qt.IsNil(err))
		front := httptest.NewServer(&httputil.ReverseProxy{
			Transport: azurite.Client.Transport,
			Rewrite:   func(req *httputil.ProxyRequest) { req.SetURL(named) },
		})
		t.Cleanup(front.Close)
		return fronted{s, front.URL}
	})
}

func TestPresign_NeedsTheNameOfTheAccountInFrontOfTheHost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		url, account string
		want         bool
	}{
		{"https://a.blob.core.windows.net", "a", true},
		{"https://a.blob.core.windows.net/", "a", true},
		{"https://ab.blob.core.windows.net", "a", false},
		{"https://blobs.example.com", "a", false},
		{"https://127.0.0.1/a", "a", false},
		{"https://a.blob.core.windows.net", "", false},
	} {
		s, err := azurestore.New(azurestore.Options{Container: "c", URL: test.url, Account: test.account, Credential: identity{}})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(s.Capabilities().Presign, test.want), qt.Commentf("%+v", test))
	}
}

// keyService gives out keys for URLs, and counts them.
type keyService struct {
	mu   sync.Mutex
	keys int
}

func (s *keyService) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.keys++
	s.mu.Unlock()
	_, times, _ := strings.Cut(string(body), "<KeyInfo>")
	times, _, _ = strings.Cut(times, "</KeyInfo>")
	times = strings.NewReplacer("Start>", "SignedStart>", "Expiry>", "SignedExpiry>").Replace(times)
	answer := "<UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid>" + times +
		"<SignedService>b</SignedService><SignedVersion>2026-04-06</SignedVersion><Value>a2V5</Value></UserDelegationKey>"
	time.Sleep(time.Second) // of the bubble
	return &http.Response{
		StatusCode: http.StatusOK, Request: req, Header: http.Header{"Content-Type": {"application/xml"}},
		Body: io.NopCloser(strings.NewReader(answer)),
	}, nil
}

func TestPresign_AsksForAKeyBeforeTheOneItHasEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := new(keyService)
		s, err := azurestore.New(azurestore.Options{
			Container: "c", URL: "https://a.blob.core.windows.net", Account: "a", Credential: identity{}, Transport: keys,
		})
		qt.Assert(t, qt.IsNil(err))
		presign := func(valid time.Duration) {
			t.Helper()
			signed, err := s.Presign(t.Context(), "k", objstore.PresignOptions{Expires: valid})
			qt.Assert(t, qt.IsNil(err))
			u, err := url.Parse(signed)
			qt.Assert(t, qt.IsNil(err))
			q := u.Query()
			qt.Check(t, qt.IsTrue(q.Get("ske") >= q.Get("se")), qt.Commentf("the key ends at %s, the URL at %s", q.Get("ske"), q.Get("se")))
			qt.Check(t, qt.IsTrue(q.Get("skt") < time.Now().UTC().Format(time.RFC3339)))
			start, err := time.Parse(time.RFC3339, q.Get("skt"))
			qt.Assert(t, qt.IsNil(err))
			end, err := time.Parse(time.RFC3339, q.Get("ske"))
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(end.Sub(start) <= 7*24*time.Hour))
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { presign(10 * time.Minute) })
		}
		wg.Wait()
		qt.Check(t, qt.Equals(keys.keys, 1))
		time.Sleep(50 * time.Minute)
		presign(10 * time.Minute)
		qt.Check(t, qt.Equals(keys.keys, 1))
		time.Sleep(10 * time.Minute)
		presign(10 * time.Minute)
		qt.Check(t, qt.Equals(keys.keys, 2))
		presign(objstore.MaxPresign)
		qt.Check(t, qt.Equals(keys.keys, 3))
	})
}

// Who waits for another one's key does not wait for longer than he wants.
func TestPresign_ReturnsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := azurestore.New(azurestore.Options{
			Container: "c", URL: "https://a.blob.core.windows.net", Account: "a", Credential: identity{}, Transport: new(keyService),
		})
		qt.Assert(t, qt.IsNil(err))
		var first sync.WaitGroup
		defer first.Wait()
		first.Go(func() { s.Presign(context.Background(), "k", objstore.PresignOptions{Expires: time.Hour}) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err = s.Presign(ctx, "k", objstore.PresignOptions{Expires: time.Hour})
		qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
		qt.Check(t, qt.Equals(time.Since(began), time.Millisecond))
	})
}

// A request without a token was not sent: so nothing is unclear, and it is not made again.
func TestErrors_OfCredentialsAreRefusals(t *testing.T) {
	t.Parallel()
	failed := errors.New("nobody knows this caller")
	s, err := azurestore.New(azurestore.Options{
		Container: "c", URL: "https://a.blob.core.windows.net", Account: "a", Credential: identity{failed}, Transport: new(keyService),
	})
	qt.Assert(t, qt.IsNil(err))
	_, readErr := s.Get(t.Context(), "a", objstore.Range{})
	_, writeErr := s.Put(t.Context(), "a", nil, objstore.Condition{IfAbsent: true})
	_, signErr := s.Presign(t.Context(), "a", objstore.PresignOptions{Expires: time.Hour})
	for i, err := range []error{readErr, writeErr, signErr} {
		qt.Check(t, qt.ErrorIs(err, objstore.ErrDenied), qt.Commentf("%d", i))
		qt.Check(t, qt.ErrorIs(err, failed), qt.Commentf("%d", i))
		qt.Check(t, qt.IsFalse(objstore.Unclear(err)), qt.Commentf("%d", i))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Get(ended, "a", objstore.Range{})
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	qt.Check(t, qt.Not(qt.ErrorIs(err, objstore.ErrDenied)), qt.Commentf("%v", err))
}
