package serve

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ocifilter"
)

// quotas are the values of -quota.
type quotas []ocifilter.QuotaRule

// add adds the value of a flag.
func (q *quotas) add(value string) error {
	prefix, n, ok := strings.Cut(value, "=")
	if !ok {
		return fmt.Errorf("want PREFIX=BYTES")
	}
	most, err := strconv.ParseInt(n, 10, 64)
	if err != nil || most <= 0 {
		return fmt.Errorf("%q is not a number of bytes", n)
	}
	if prefix != "" {
		if err := ociregistry.CheckRepository(prefix); err != nil {
			return fmt.Errorf("%w: %q", err, prefix)
		}
	}
	*q = append(*q, ocifilter.QuotaRule{Prefix: prefix, MaxBytes: most})
	return nil
}

// over returns a view of a registry that keeps to the quotas, if there are any.
func (q quotas) over(r ociregistry.Interface) (ociregistry.Interface, error) {
	if len(q) == 0 {
		return r, nil
	}
	limited, err := ocifilter.Quota(r, q)
	if err != nil {
		return nil, fmt.Errorf("-quota: %w", err)
	}
	return limited, nil
}
