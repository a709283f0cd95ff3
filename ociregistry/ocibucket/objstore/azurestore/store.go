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
	"context"
	"errors"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Options are options for New.
type Options struct {
	// Container is the container's name. It must exist.
	Container string
	// URL is that of the account's blob service, as in https://ACCOUNT.blob.core.windows.net.
	URL string
	// Account and Key are the account's name and its shared key, in base64. With them there are
	// presigned URLs.
	Account, Key string
	// Credential is the caller's, where there is no shared key: see package azidentity.
	Credential azcore.TokenCredential
	// Transport makes the requests. It must not repeat any. Nil means the SDK's.
	Transport policy.Transporter
}

// New returns a store in a container. It makes no request. Errors: objstore.ErrInvalid for
// options that cannot be.
func New(opts Options) (objstore.Store, error) {
	s := &store{name: opts.Container}
	if opts.Container == "" || opts.URL == "" {
		return nil, invalid(errors.New("no container, or no URL"))
	}
	url := strings.TrimSuffix(opts.URL, "/") + "/" + opts.Container
	client := &container.ClientOptions{ClientOptions: policy.ClientOptions{
		// A conditional write that the SDK made again would fail on its own success.
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Transport: opts.Transport,
	}}
	var err error
	switch {
	case opts.Key != "":
		s.key, err = azblob.NewSharedKeyCredential(opts.Account, opts.Key)
		if err == nil {
			s.client, err = container.NewClientWithSharedKeyCredential(url, s.key, client)
		}
	case opts.Credential != nil:
		s.client, err = container.NewClient(url, opts.Credential, client)
	default:
		err = errors.New("neither a key nor a credential")
	}
	if err != nil {
		return nil, invalid(err)
	}
	return objstore.Check(s), nil
}

func invalid(err error) error {
	return &objstore.Error{Op: "New", Kind: objstore.ErrInvalid, Err: err}
}

type store struct {
	client *container.Client
	name   string
	key    *azblob.SharedKeyCredential // nil if there is none
}

// maxParts is the service's limit of the blocks of a blob.
const maxParts = 50000

func (s *store) Capabilities() objstore.Capabilities {
	return objstore.Capabilities{
		DeleteIfMatch: true,
		Presign:       s.key != nil,
		MinPartSize:   1,
		MaxPartSize:   4000 << 20,
		MaxParts:      maxParts,
	}
}

func (s *store) Presign(ctx context.Context, key string, opts objstore.PresignOptions) (string, error) {
	protocol := sas.ProtocolHTTPS
	url := s.client.NewBlobClient(key).URL()
	if strings.HasPrefix(url, "http:") {
		protocol = sas.ProtocolHTTPSandHTTP
	}
	query, err := sas.BlobSignatureValues{
		Protocol: protocol, ExpiryTime: time.Now().UTC().Add(opts.Expires), ContentType: opts.ContentType,
		ContainerName: s.name, BlobName: key, Permissions: (&sas.BlobPermissions{Read: true}).String(),
	}.SignWithSharedKey(s.key)
	if err != nil {
		return "", failure("Presign", key, false, err)
	}
	return url + "?" + query.Encode(), ctx.Err()
}
