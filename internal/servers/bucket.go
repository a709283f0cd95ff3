package servers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// S3 starts versitygw on a new directory, in which there is a bucket, and returns its URL.
func S3(t testing.TB, bucket string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, bucket), 0o777))
	return Versitygw(t, dir)
}

// Azure starts Azurite, in which there is a container, and returns the URL of its account.
func Azure(t testing.TB, container string) string {
	t.Helper()
	account := azurite(t) + "/" + AzureAccount
	createContainer(t, http.DefaultClient, account+"/"+container, func(req *http.Request) string {
		return "SharedKey " + AzureAccount + ":" + sharedKeySignature(t, req, container)
	})
	return account
}

// azureIdle is for how long clients of Azurite keep connections that they do not use. It closes them after 5 seconds;
// a request by one that it is about to close fails, and may have been carried out.
const azureIdle = time.Second

// AzureClient returns a client that makes no request which fails because Azurite closes connections.
func AzureClient(t testing.TB) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.IdleConnTimeout = azureIdle
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Bucket is a bucket of a server, as the program takes it.
type Bucket struct {
	Endpoint string
	// Env is the environment with the credentials.
	Env  map[string]string
	name string
}

// URL is that of a prefix, for the flag -bucket.
func (b Bucket) URL(prefix string) string { return b.name + "/" + prefix + "?endpoint=" + b.Endpoint }

// Buckets has what starts a server with a bucket, by the server's name.
var Buckets = map[string]func(testing.TB) Bucket{
	"versitygw": func(t testing.TB) Bucket {
		return Bucket{
			Endpoint: S3(t, "bucket"),
			Env:      map[string]string{"AWS_ACCESS_KEY_ID": S3Access, "AWS_SECRET_ACCESS_KEY": S3Secret, "AWS_REGION": "us-east-1"},
			name:     "s3://bucket",
		}
	},
	"azurite": func(t testing.TB) Bucket {
		return Bucket{
			Endpoint: Azure(t, "container"),
			Env:      map[string]string{"AZURE_STORAGE_ACCOUNT": AzureAccount, "AZURE_STORAGE_KEY": AzureKey},
			name:     "azure://container",
		}
	},
}

// createContainer creates a container in Azurite. authorize returns the header of that name.
func createContainer(t testing.TB, client *http.Client, url string, authorize func(*http.Request) string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"?restype=container", nil)
	must(t, err)
	req.Header.Set("X-Ms-Date", time.Now().UTC().Format(http.TimeFormat))
	req.Header.Set("X-Ms-Version", "2021-12-02")
	req.Header.Set("Authorization", authorize(req))
	resp, err := client.Do(req)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s was not created: %s", url, resp.Status)
	}
}

// sharedKeySignature signs a request that creates a container. The account is in the path, too.
func sharedKeySignature(t testing.TB, req *http.Request, container string) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(AzureKey)
	must(t, err)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("PUT\n\n\n\n\n\n\n\n\n\n\n\n" +
		"x-ms-date:" + req.Header.Get("X-Ms-Date") + "\nx-ms-version:" + req.Header.Get("X-Ms-Version") + "\n" +
		"/" + AzureAccount + "/" + AzureAccount + "/" + container + "\nrestype:container"))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
