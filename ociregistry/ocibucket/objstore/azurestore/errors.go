package azurestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/internal/httpstatus"
)

// kinds are the service's error codes that mean something to us. What is absent is judged by its
// status: a code says more than a status, which a proxy may have made.
var kinds = map[bloberror.Code]error{
	bloberror.BlobNotFound:          objstore.ErrNotFound,
	bloberror.ConditionNotMet:       objstore.ErrPrecondition,
	bloberror.TargetConditionNotMet: objstore.ErrPrecondition,
	bloberror.BlobAlreadyExists:     objstore.ErrPrecondition, // of If-None-Match
	bloberror.InvalidBlockList:      objstore.ErrInvalidPart,
	bloberror.InvalidRange:          objstore.ErrInvalidRange,
	bloberror.ServerBusy:            objstore.ErrThrottled,
	bloberror.ContainerNotFound:     objstore.ErrInvalid,
}

// failure returns the error of a request.
func failure(op, key string, write bool, err error) error {
	e := &objstore.Error{Op: op, Key: key, Err: err}
	status, code := 0, bloberror.Code("")
	var resp *azcore.ResponseError
	if errors.As(err, &resp) {
		status, code = resp.StatusCode, bloberror.Code(resp.ErrorCode)
		if resp.RawResponse != nil {
			e.Date, e.After = httpstatus.Date(resp.RawResponse.Header), httpstatus.After(resp.RawResponse.Header)
		}
	}
	e.Kind = kindOf(status, code, write)
	if errors.Is(err, errNoToken) {
		e.Kind = objstore.ErrDenied
	}
	return e
}

// errNoToken is an error of a request that was not sent, for want of a token.
var errNoToken = errors.New("no token")

// credential is the caller's. Its errors are errNoToken: it has itself tried again what was worth it.
type credential struct{ azcore.TokenCredential }

func (c credential) GetToken(ctx context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.TokenCredential.GetToken(ctx, opts)
	if err == nil {
		return token, nil
	}
	reason := errNoToken
	if ctx.Err() != nil {
		reason = ctx.Err()
	}
	return token, fmt.Errorf("%w: %w", reason, err)
}

func kindOf(status int, code bloberror.Code, write bool) error {
	if kind, known := kinds[code]; known {
		return kind
	}
	return httpstatus.Kind(status, write)
}
