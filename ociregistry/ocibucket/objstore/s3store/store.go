// Package s3store is an objstore.Store in Amazon S3, or in a service that speaks its protocol.
//
// The service must have conditional writes (If-None-Match and If-Match of PutObject and
// CompleteMultipartUpload): objstore.Probe finds out.
package s3store

import (
	"context"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// Options are options for New.
type Options struct {
	// Bucket is the bucket's name. It must exist.
	Bucket string
	// Region is the bucket's region. Empty means that of the environment and of the shared
	// configuration files, or us-east-1 if there is none.
	Region string
	// Endpoint is the URL of a service other than Amazon's. Empty means that of the
	// environment and of the shared configuration files, or Amazon's.
	Endpoint string
	// VirtualHost puts the bucket's name into the host of the Endpoint. Amazon's endpoints
	// always have it there.
	VirtualHost bool
	// Credentials are the caller's. Nil means those of the environment, of the shared
	// configuration files, or of the machine, as the SDK finds them.
	Credentials aws.CredentialsProvider
	// NoDeleteIfMatch says that the service's deletes take no condition.
	NoDeleteIfMatch bool
	// HTTPClient makes the requests. It must not repeat any. Nil means the SDK's.
	HTTPClient *http.Client
}

// New returns a store in a bucket. It makes no request to the service, but may read
// files and ask the machine for credentials. Errors: objstore.ErrInvalid for options that
// cannot be, and those of the SDK for a configuration that it cannot read.
func New(ctx context.Context, opts Options) (objstore.Store, error) {
	if opts.Bucket == "" {
		return nil, &objstore.Error{Op: "New", Kind: objstore.ErrInvalid, Err: errNoBucket}
	}
	load := []func(*config.LoadOptions) error{
		// A conditional write that the SDK made again would fail on its own success.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		// Requests are signed with a hash of their body; services other than Amazon's stumble
		// over the checksums.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if opts.Region != "" {
		load = append(load, config.WithRegion(opts.Region))
	}
	if opts.Credentials != nil {
		load = append(load, config.WithCredentialsProvider(opts.Credentials))
	}
	if opts.HTTPClient != nil {
		load = append(load, config.WithHTTPClient(opts.HTTPClient))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.Retryer = aws.NopRetryer{}
		if opts.Endpoint != "" {
			o.BaseEndpoint = &opts.Endpoint
		}
		o.UsePathStyle = o.BaseEndpoint != nil && !opts.VirtualHost
	})
	s := &store{client: client, presign: s3.NewPresignClient(client), bucket: &opts.Bucket, noDeleteIfMatch: opts.NoDeleteIfMatch}
	return objstore.Check(s), nil
}

type store struct {
	client          *s3.Client
	presign         *s3.PresignClient
	bucket          *string
	noDeleteIfMatch bool
}

// The limits are those of Amazon's service.
func (s *store) Capabilities() objstore.Capabilities {
	return objstore.Capabilities{
		DeleteIfMatch: !s.noDeleteIfMatch,
		StartAfter:    true,
		PartsReplace:  true,
		Presign:       true,
		MinPartSize:   5 << 20,
		MaxPartSize:   5 << 30,
		MaxParts:      10000,
	}
}

func (s *store) Presign(ctx context.Context, key string, opts objstore.PresignOptions) (string, error) {
	in := &s3.GetObjectInput{Bucket: s.bucket, Key: &key}
	if opts.ContentType != "" {
		in.ResponseContentType = &opts.ContentType
	}
	req, err := s.presign.PresignGetObject(ctx, in, s3.WithPresignExpires(opts.Expires))
	if err != nil {
		return "", failure("Presign", key, false, err)
	}
	return req.URL, nil
}
