package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/azurestore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/s3store"
)

// openStore returns the store that the value of -bucket names, and the prefix in it.
func openStore(ctx context.Context, value string) (store objstore.Store, prefix string, err error) {
	u, err := url.Parse(value)
	if err != nil {
		return nil, "", errors.New("it is not a URL") // err has all of it
	}
	if prefix = strings.Trim(u.Path, "/"); prefix != "" {
		prefix += "/"
	}
	settings := settings{known: u.Query()}
	switch u.Scheme {
	case "s3":
		store, err = openS3(ctx, u.Host, &settings)
	case "azure":
		store, err = openAzure(u.Host, &settings)
	default:
		err = fmt.Errorf("the scheme %q is neither s3 nor azure", u.Scheme)
	}
	return store, prefix, err
}

func openS3(ctx context.Context, bucket string, s *settings) (objstore.Store, error) {
	opts := s3store.Options{
		Bucket:          bucket,
		Region:          s.text("region"),
		Endpoint:        s.text("endpoint"),
		VirtualHost:     s.truth("virtual-host"),
		NoDeleteIfMatch: s.truth("no-delete-if-match"),
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s3store.New(ctx, opts)
}

// openAzure takes the key of the environment or, if there is none, the credential that the SDK finds.
func openAzure(container string, s *settings) (objstore.Store, error) {
	opts := azurestore.Options{
		Container: container,
		URL:       s.text("endpoint"),
		Account:   os.Getenv("AZURE_STORAGE_ACCOUNT"),
		Key:       os.Getenv("AZURE_STORAGE_KEY"),
	}
	switch err := s.check(); {
	case err != nil:
		return nil, err
	case opts.Account == "":
		return nil, errors.New("AZURE_STORAGE_ACCOUNT is needed in the environment")
	case opts.URL == "":
		opts.URL = "https://" + opts.Account + ".blob.core.windows.net"
	}
	if opts.Key == "" {
		var err error
		if opts.Credential, err = azidentity.NewDefaultAzureCredential(nil); err != nil {
			return nil, err
		}
	}
	return azurestore.New(opts)
}

// settings are those in the query of a URL.
type settings struct {
	known url.Values
	asked []string
	err   error
}

// text returns a setting, which is empty if it is not given.
func (s *settings) text(name string) string {
	s.asked = append(s.asked, name)
	return s.known.Get(name)
}

// truth returns a setting that is true or false.
func (s *settings) truth(name string) bool {
	text := s.text(name)
	if text == "" {
		return false
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		s.err = fmt.Errorf("%s=%s is neither true nor false", name, text)
	}
	return value
}

// check returns an error for settings that nobody has asked for, or that are wrong.
func (s *settings) check() error {
	for name := range s.known {
		if !slices.Contains(s.asked, name) {
			return fmt.Errorf("there is no setting %q", name)
		}
	}
	return s.err
}
