package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/locked"
	"github.com/seed-40b21970/oci/internal/servers"
	"github.com/seed-40b21970/oci/ociclient"
	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocitest"
)

func TestOpenStore_TakesURLs(t *testing.T) {
	t.Setenv("AZURE_STORAGE_ACCOUNT", servers.AzureAccount)
	t.Setenv("AZURE_STORAGE_KEY", servers.AzureKey)
	for _, test := range []struct{ url, prefix, err string }{
		{"s3://name", "", ""},
		{"s3://name/", "", ""},
		{"s3://name/a/b", "a/b/", ""},
		{"s3://name/a/?region=eu-west-1&endpoint=http://localhost:1&virtual-host=true&no-delete-if-match=1", "a/", ""},
		{"azure://name/a?endpoint=http://localhost:1/devstoreaccount1", "a/", ""},
		{"azure://name", "", ""},
		{"s3://", "", "no name of a bucket"},
		{"s3://name?regoin=x", "", `there is no setting "regoin"`},
		{"s3://name?virtual-host=maybe", "", "virtual-host=maybe is neither true nor false"},
		{"azure://name?region=x", "", `there is no setting "region"`},
		{"gs://name", "", `the scheme "gs" is neither s3 nor azure`},
		{"name", "", `the scheme "" is neither s3 nor azure`},
		{"s3://name?%zz=secret\x7f", "", "it is not a URL"},
	} {
		_, prefix, err := openStore(t.Context(), test.url)
		if test.err != "" {
			qt.Check(t, qt.ErrorMatches(err, ".*"+test.err+".*"), qt.Commentf(test.url))
			continue
		}
		qt.Check(t, qt.IsNil(err), qt.Commentf(test.url))
		qt.Check(t, qt.Equals(prefix, test.prefix), qt.Commentf(test.url))
	}
	t.Setenv("AZURE_STORAGE_KEY", "")
	_, _, err := openStore(t.Context(), "azure://name")
	qt.Check(t, qt.IsNil(err))
	_, _, err = openStore(t.Context(), "azure://name?endpoint=http://localhost:1/devstoreaccount1")
	qt.Check(t, qt.ErrorMatches(err, ".*a token is sent by https only"))
	t.Setenv("AZURE_STORAGE_ACCOUNT", "")
	_, _, err = openStore(t.Context(), "azure://name")
	qt.Check(t, qt.ErrorMatches(err, "AZURE_STORAGE_ACCOUNT is needed in the environment"))
}

// start runs the program until the test ends, and returns the host that it serves.
func start(t *testing.T, args ...string) (host string, log *locked.Buffer) {
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	log = new(locked.Buffer)
	status := make(chan int, 1)
	go func() {
		status <- program().Run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), in, log)
		in.Close()
	}()
	t.Cleanup(func() {
		cancel()
		qt.Check(t, qt.Equals(<-status, 0), qt.Commentf("log: %s", log))
	})
	first, err := bufio.NewReader(out).ReadString('\n')
	qt.Assert(t, qt.IsNil(err), qt.Commentf("log: %s", log))
	go io.Copy(io.Discard, out)
	return regexp.MustCompile(`http://([^/]+)/`).FindStringSubmatch(first)[1], log
}

// TestProgram_ServesABucketFromSeveralProcesses pushes to one program and pulls from another,
// which sends clients to the bucket.
func TestProgram_ServesABucketFromSeveralProcesses(t *testing.T) {
	for name, start := range servers.Buckets {
		t.Run(name, func(t *testing.T) { testSeveralProcesses(t, start(t)) })
	}
}

func testSeveralProcesses(t *testing.T, bucket servers.Bucket) {
	for name, value := range bucket.Env {
		t.Setenv(name, value)
	}
	ctx := t.Context()
	url := bucket.URL("team")
	first, _ := start(t, "-bucket", url)
	second, log := start(t, "-bucket", url, "-redirect", "10m")

	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	image := ocitest.NewImage(ocitest.Spec{Seed: 1, Layers: []int64{100, 300_000}})
	client, err := ociclient.New(first, &ociclient.Options{Insecure: true, Transport: transport})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(image.Push(ctx, client, "app", "v1")))
	client, err = ociclient.New(second, &ociclient.Options{Insecure: true, Transport: transport})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(image.Verify(ctx, client, "app")))

	direct := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, b := range image.Blobs {
		resp, err := direct.Get("http://" + second + "/v2/app/blobs/" + string(b.Descriptor.Digest))
		qt.Assert(t, qt.IsNil(err))
		resp.Body.Close()
		if b.Descriptor.Size > 64<<10 {
			qt.Check(t, qt.Equals(resp.StatusCode, http.StatusTemporaryRedirect))
			qt.Check(t, qt.IsTrue(strings.HasPrefix(resp.Header.Get("Location"), bucket.Endpoint)))
			qt.Check(t, qt.StringContains(resp.Header.Get("Cache-Control"), "private, max-age="))
		} else {
			qt.Check(t, qt.Equals(resp.StatusCode, http.StatusOK))
		}
	}
	for _, secret := range []string{"Signature", "sig="} {
		qt.Check(t, qt.Not(qt.StringContains(log.String(), secret)))
	}

	var out, errs strings.Builder
	status := program().Run(ctx, []string{"gc", "-bucket", url, "-dry-run", "-untagged"}, &out, &errs)
	qt.Check(t, qt.Equals(status, 0), qt.Commentf(errs.String()))
	qt.Check(t, qt.StringContains(out.String(), "Would remove nothing (0 B) from 1 repository."))
	out.Reset()
	status = program().Run(ctx, []string{"verify", "-bucket", url}, &out, &errs)
	qt.Check(t, qt.Equals(status, 0), qt.Commentf(errs.String()))
	qt.Check(t, qt.Equals(out.String(), "Nothing is wrong.\n"))
	status = program().Run(ctx, []string{"-bucket", url, "-redirect", "13h"}, &out, &errs)
	qt.Check(t, qt.Equals(status, 1))
	qt.Check(t, qt.StringContains(errs.String(), "-redirect: BlobURL"))
	qt.Check(t, qt.StringContains(errs.String(), "a URL cannot be valid for 13h"))
	status = program().Run(ctx, []string{"verify", "-bucket", strings.Replace(url, "team", "nobody", 1)}, &out, &errs)
	qt.Check(t, qt.Equals(status, 1))
	qt.Check(t, qt.StringContains(errs.String(), "there is no registry in the bucket"))
}

// TestProgram_KeepsToQuotas pushes to one program as much as a quota allows, and to another one.
func TestProgram_KeepsToQuotas(t *testing.T) {
	endpoint := servers.S3(t, "images")
	t.Setenv("AWS_ACCESS_KEY_ID", servers.S3Access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", servers.S3Secret)
	ctx := t.Context()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	push := func(host, repo string, seed uint64) error {
		client, err := ociclient.New(host, &ociclient.Options{Insecure: true, Transport: transport})
		qt.Assert(t, qt.IsNil(err))
		blob := ocitest.NewBlob(seed, 100_000)
		_, err = client.PushBlob(ctx, repo, blob.Descriptor, blob.NewReader())
		return err
	}
	url := "s3://images/team?endpoint=" + endpoint
	first, _ := start(t, "-bucket", url, "-quota", "app=250000")
	qt.Assert(t, qt.IsNil(push(first, "app/a", 1)))
	qt.Assert(t, qt.IsNil(push(first, "app/b", 2)))
	second, _ := start(t, "-bucket", url, "-quota", "app=250000")
	for _, host := range []string{first, second} {
		err := push(host, "app/c", 3)
		qt.Check(t, qt.ErrorIs(err, ociregistry.ErrDenied))
		qt.Check(t, qt.ErrorMatches(err, ".*the quota of app is 250000 bytes; .* do not fit.*"))
		qt.Check(t, qt.IsNil(push(host, "elsewhere", 3)))
	}
}
