// Package azurestore is an objstore.Store in a container of Azure Blob Storage.
//
// An upload of parts is what Azure calls the uncommitted blocks of a block blob, whose IDs
// begin with the upload's. A few things differ from other stores:
//
//   - Parts of one number do not replace each other.
//   - An upload shows once it has a part. The service forgets it a week after its last part.
//   - A Put of the key ends its uploads. So does AbortMultipart, of all uploads of the key: it shows an
//     empty object at the key for a moment. It cannot abort an upload to a key that
//     has an object, which is ErrUnsupported, and ListMultiparts shows such an upload
//     only if the object is empty.
package azurestore

import (
	"errors"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Options are options for New.
type Options struct {
	// Container is the container's name. It must exist.
	Container string
	// URL is that of the account's blob service, as in https://ACCOUNT.blob.core.windows.net.
	URL string
	// Account is the account's name.
	Account string
	// Key is the account's shared key, in base64. With it there are presigned URLs.
	Key string
	// Credential is the caller's, where there is no shared key: see package azidentity. It needs
	// a URL of https. There are presigned URLs if the host of the URL is ACCOUNT and a dot and more.
	// The service gives out keys for them if the caller may generateUserDelegationKey: the
	// roles Storage Blob Data Contributor and Storage Blob Delegator may, if they are
	// given for the account.
	Credential azcore.TokenCredential
	// Transport makes the requests. It must not repeat any. Nil means the SDK's.
	Transport policy.Transporter
}

// New returns a store in a container. It makes no request. Errors: objstore.ErrInvalid for
// options that cannot be.
func New(opts Options) (objstore.Store, error) {
	s := &store{name: opts.Container}
	if err := s.connect(opts); err != nil {
		return nil, &objstore.Error{Op: "New", Kind: objstore.ErrInvalid, Err: err}
	}
	return objstore.Check(s), nil
}

func (s *store) connect(opts Options) (err error) {
	if opts.Container == "" || opts.URL == "" {
		return errors.New("no container, or no URL")
	}
	url := strings.TrimSuffix(opts.URL, "/") + "/" + opts.Container
	client := policy.ClientOptions{
		// A conditional write that the SDK made again would fail on its own success.
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Transport: opts.Transport,
	}
	if opts.Key != "" {
		key, err := azblob.NewSharedKeyCredential(opts.Account, opts.Key)
		if err != nil {
			return err
		}
		s.sign = sharedSign(key)
		s.client, err = container.NewClientWithSharedKeyCredential(url, key, &container.ClientOptions{ClientOptions: client})
		return err
	}
	switch {
	case opts.Credential == nil:
		return errors.New("neither a key nor a credential")
	case !strings.HasPrefix(url, "https://"):
		return errors.New("a token is sent by https only")
	}
	caller := credential{opts.Credential}
	if opts.Account != "" && strings.HasPrefix(url, "https://"+opts.Account+".") {
		if s.sign, err = delegatedSign(opts.URL, caller, &service.ClientOptions{ClientOptions: client}); err != nil {
			return err
		}
	}
	s.client, err = container.NewClient(url, caller, &container.ClientOptions{ClientOptions: client})
	return err
}

type store struct {
	client *container.Client
	name   string
	sign   signFunc // nil if there are no presigned URLs
}

// maxParts is the service's limit of the blocks of a blob.
const maxParts = 50000

func (s *store) Capabilities() objstore.Capabilities {
	return objstore.Capabilities{
		DeleteIfMatch: true,
		Presign:       s.sign != nil,
		MinPartSize:   1,
		MaxPartSize:   4000 << 20,
		MaxParts:      maxParts,
	}
}
