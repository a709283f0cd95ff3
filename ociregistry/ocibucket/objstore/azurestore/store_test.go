package azurestore_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/servers"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/azurestore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/storetest"
)

func open(t testing.TB, url string) objstore.Store {
	t.Helper()
	s, err := azurestore.New(azurestore.Options{
		Container: "container", URL: url, Account: servers.AzureAccount, Key: servers.AzureKey,
		Transport: servers.AzureClient(t),
	})
	qt.Assert(t, qt.IsNil(err))
	return s
}

func TestContract_OnAzurite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) objstore.Store { return open(t, servers.Azure(t, "container")) })
}

func TestNew_RefusesOptionsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, opts := range []azurestore.Options{
		{}, {Container: "c"}, {Container: "c", URL: "https://a"}, {Container: "c", URL: "https://a", Account: "a", Key: "not base64!"},
		{Container: "c", URL: "http://a", Credential: identity{}},
	} {
		_, err := azurestore.New(opts)
		qt.Check(t, qt.ErrorIs(err, objstore.ErrInvalid), qt.Commentf("%+v", opts))
	}
}

func TestErrors_SayWhatBecameOfTheRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status      int
		code        string
		read, write error
	}{
		{404, "BlobNotFound", objstore.ErrNotFound, objstore.ErrNotFound},
		{404, "ContainerNotFound", objstore.ErrInvalid, objstore.ErrInvalid},
		{404, "", objstore.ErrBadAnswer, objstore.ErrBadAnswer},
		{409, "BlobAlreadyExists", objstore.ErrPrecondition, objstore.ErrPrecondition},
		{412, "ConditionNotMet", objstore.ErrPrecondition, objstore.ErrPrecondition},
		{503, "ServerBusy", objstore.ErrThrottled, objstore.ErrThrottled},
		{429, "", objstore.ErrThrottled, objstore.ErrThrottled},
		{403, "AuthenticationFailed", objstore.ErrDenied, objstore.ErrDenied},
		{500, "OperationTimedOut", objstore.ErrTemporary, objstore.ErrUnclear},
		{502, "", objstore.ErrTemporary, objstore.ErrUnclear},
		{400, "InvalidInput", objstore.ErrInvalid, objstore.ErrInvalid},
	}
	for _, test := range tests {
		var count atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			count.Add(1)
			io.Copy(io.Discard, req.Body)
			w.Header().Set("X-Ms-Error-Code", test.code)
			w.WriteHeader(test.status)
			fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code></Error>`, test.code)
		}))
		t.Cleanup(server.Close)
		s := open(t, server.URL)
		_, err := s.Get(t.Context(), "a", objstore.Range{})
		qt.Check(t, qt.ErrorIs(err, test.read), qt.Commentf("%+v", test))
		_, err = s.Put(t.Context(), "a", []byte("x"), objstore.Condition{IfAbsent: true})
		qt.Check(t, qt.ErrorIs(err, test.write), qt.Commentf("%+v", test))
		qt.Check(t, qt.Equals(objstore.Unclear(err), errors.Is(test.write, objstore.ErrUnclear) || errors.Is(test.write, objstore.ErrBadAnswer)))
		qt.Check(t, qt.IsFalse(objstore.Date(err).IsZero()))
		// No request was made again.
		qt.Check(t, qt.Equals(count.Load(), 2), qt.Commentf("%+v", test))
	}
}
