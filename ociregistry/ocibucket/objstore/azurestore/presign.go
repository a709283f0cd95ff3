package azurestore

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

func (s *store) Presign(ctx context.Context, key string, opts objstore.PresignOptions) (string, error) {
	protocol := sas.ProtocolHTTPS
	url := s.client.NewBlobClient(key).URL()
	if strings.HasPrefix(url, "http:") {
		protocol = sas.ProtocolHTTPSandHTTP
	}
	query, err := s.sign(ctx, sas.BlobSignatureValues{
		Protocol: protocol, ExpiryTime: time.Now().UTC().Add(opts.Expires), ContentType: opts.ContentType,
		ContainerName: s.name, BlobName: key, Permissions: (&sas.BlobPermissions{Read: true}).String(),
	})
	if err != nil {
		return "", failure("Presign", key, false, err)
	}
	return url + "?" + query.Encode(), ctx.Err()
}

// signFunc signs what a URL says.
type signFunc func(context.Context, sas.BlobSignatureValues) (sas.QueryParameters, error)

// sharedSign signs with the key of the account.
func sharedSign(key *azblob.SharedKeyCredential) signFunc {
	return func(_ context.Context, values sas.BlobSignatureValues) (sas.QueryParameters, error) {
		return values.SignWithSharedKey(key)
	}
}

const (
	// keyLife is for how much longer than its first URL a delegated key is valid. A key that is revoked
	// is not used for longer than this, and a key is asked for as often.
	keyLife = time.Hour
	// clockSlack is by how much the clock of the service may be behind ours: a key is valid from then on.
	clockSlack = 15 * time.Minute
)

// delegated signs with a key that the service has given to the caller, which is valid for a time.
type delegated struct {
	client *service.Client
	turn   chan struct{} // who has sent into it has the fields below

	key     *sas.UserDelegationCredential // nil before the first URL
	expires time.Time
}

// delegatedSign returns what signs URLs for a caller who has no shared key. The host of the URL
// of the account's service begins with the account's name, since the SDK finds it there.
func delegatedSign(url string, credential azcore.TokenCredential, opts *service.ClientOptions) (signFunc, error) {
	client, err := service.NewClient(url, credential, opts)
	if err != nil {
		return nil, err
	}
	return (&delegated{client: client, turn: make(chan struct{}, 1)}).sign, nil
}

func (d *delegated) sign(ctx context.Context, values sas.BlobSignatureValues) (sas.QueryParameters, error) {
	key, err := d.keyUntil(ctx, values.ExpiryTime)
	if err != nil {
		return sas.QueryParameters{}, err
	}
	return values.SignWithUserDelegation(key)
}

// keyUntil returns a key that is valid until a time, if not longer. Of several callers that need a new
// one, each with a context of its own, one asks and the others wait.
func (d *delegated) keyUntil(ctx context.Context, until time.Time) (*sas.UserDelegationCredential, error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !d.expires.Before(until) {
		return d.key, nil
	}
	from, expires := time.Now().UTC().Add(-clockSlack), until.Add(keyLife)
	key, err := d.client.GetUserDelegationCredential(ctx, service.KeyInfo{
		Start: to.Ptr(from.Format(sas.TimeFormat)), Expiry: to.Ptr(expires.Format(sas.TimeFormat)),
	}, nil)
	if err != nil {
		return nil, err
	}
	d.key, d.expires = key, expires.Truncate(time.Second)
	return key, nil
}
