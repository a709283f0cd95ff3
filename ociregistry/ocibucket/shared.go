package ocibucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/bucket"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/internal/keys"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
)

// shared is what all processes of a registry must agree about.
type shared struct {
	Format        int    `json:"format"`
	Grace         string `json:"grace"`
	ImmutableTags bool   `json:"immutableTags"`
	Sparse        bool   `json:"sparse"`
}

const (
	format    = 1
	maxShared = 4096 // in bytes
)

// share agrees with the other processes, of which the first decides.
func (r *Registry) share(ctx context.Context) error {
	mine := shared{format, r.bucket.Grace().String(), r.opts.ImmutableTags, r.opts.Sparse}
	there, err := r.bucket.Read(ctx, keys.Options, maxShared)
	if err == nil && !there.Found {
		if r.opts.ReadOnly {
			return nil // nothing is there
		}
		text, _ := json.Marshal(mine)
		there, err = r.bucket.Write(ctx, keys.Options, text, objstore.Condition{IfAbsent: true})
		if err == nil {
			return nil
		}
	}
	if err != nil && !errors.Is(err, bucket.ErrLost) {
		return err
	}
	var theirs shared
	if err := json.Unmarshal([]byte(there.Text), &theirs); err != nil {
		return bucket.Damaged(keys.Options, err)
	}
	if theirs != mine {
		return fmt.Errorf("the registry in the bucket has the options %+v, not %+v", theirs, mine)
	}
	return nil
}
