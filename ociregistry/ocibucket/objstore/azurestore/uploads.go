package azurestore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore"
	"github.com/seed-40b21970/oci/ociregistry/ocibucket/objstore/internal/loan"
)

// A block's ID is that of the upload, the part's number and a nonce, so that parts of one number are
// told apart. An upload's ID begins with when it was created. All have the same length,
// which the service demands of the blocks of a blob.
const (
	nonceLen  = 16
	uploadLen = 10 + nonceLen
	blockLen  = uploadLen + 5 + nonceLen
)

func nonce() string { return rand.Text()[:nonceLen] }

// CreateMultipart asks for the properties of the key, for the sake of the answer's date.
func (s *store) CreateMultipart(ctx context.Context, key string) (objstore.Multipart, error) {
	out, err := s.client.NewBlobClient(key).GetProperties(ctx, nil)
	date := value(out.Date)
	if err != nil {
		// A write in the words of objstore, but one that changes nothing. An answer to a HEAD
		// has no body, but its code in a header.
		err = failure("CreateMultipart", key, true, err)
		if !errors.Is(err, objstore.ErrNotFound) {
			return objstore.Multipart{}, err
		}
		date = objstore.Date(err)
	}
	return objstore.Multipart{Key: key, ID: fmt.Sprintf("%010d", date.Unix()) + nonce(), Created: date}, nil
}

func (s *store) PutPart(ctx context.Context, up objstore.Multipart, number int, body []byte) (objstore.Part, error) {
	if _, ok := created(up.ID); !ok {
		return objstore.Part{}, unknown("PutPart", up)
	}
	id := up.ID + fmt.Sprintf("%05d", number) + nonce()
	lent := loan.New(body)
	defer lent.Return()
	out, err := s.client.NewBlockBlobClient(up.Key).StageBlock(ctx, encode(id), lent, nil)
	if err != nil {
		return objstore.Part{}, failure("PutPart", up.Key, true, err)
	}
	return objstore.Part{ETag: objstore.ETag(id), Date: value(out.Date)}, nil
}

func (s *store) ListParts(ctx context.Context, up objstore.Multipart, after int) (*objstore.PartPage, error) {
	parts, date, err := s.blocks(ctx, "ListParts", up)
	if err != nil {
		return nil, err
	}
	parts = slices.DeleteFunc(parts, func(p objstore.Part) bool { return p.Number <= after })
	return &objstore.PartPage{Parts: parts, Date: date}, nil
}

// blocks returns the parts of an upload, in order of their numbers. ErrNotFound means that
// there are none.
func (s *store) blocks(ctx context.Context, op string, up objstore.Multipart) ([]objstore.Part, time.Time, error) {
	byUpload, date, err := s.uncommitted(ctx, op, up.Key)
	if err != nil {
		return nil, date, err
	}
	parts := byUpload[up.ID]
	if len(parts) == 0 {
		return nil, date, &objstore.Error{Op: op, Key: up.Key, Kind: objstore.ErrNotFound, Date: date}
	}
	slices.SortFunc(parts, func(a, b objstore.Part) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.ETag, b.ETag))
	})
	return parts, date, nil
}

// uncommitted returns the parts of all uploads of a key, by the upload's ID.
func (s *store) uncommitted(ctx context.Context, op, key string) (map[string][]objstore.Part, time.Time, error) {
	out, err := s.client.NewBlockBlobClient(key).GetBlockList(ctx, blockblob.BlockListTypeUncommitted, nil)
	if err != nil {
		return nil, time.Time{}, failure(op, key, false, err)
	}
	byUpload := map[string][]objstore.Part{}
	for _, b := range out.UncommittedBlocks {
		if upload, p, ok := parseBlock(value(b.Name), value(b.Size)); ok {
			byUpload[upload] = append(byUpload[upload], p)
		}
	}
	return byUpload, value(out.Date), nil
}

// parseBlock parses a block's ID. It is not ok if it is not one that we made.
func parseBlock(name string, size int64) (upload string, p objstore.Part, ok bool) {
	id, err := base64.StdEncoding.DecodeString(name)
	if err != nil || len(id) != blockLen {
		return "", p, false
	}
	upload = string(id[:uploadLen])
	number, err := strconv.ParseUint(string(id[uploadLen:uploadLen+5]), 10, 32)
	if _, ours := created(upload); !ours || err != nil || number < 1 || number > maxParts {
		return "", p, false
	}
	return upload, objstore.Part{Number: int(number), ETag: objstore.ETag(id), Size: size}, true
}

// created returns when the upload with an ID was created. It is not ok if the ID is not one
// that we made.
func created(id string) (time.Time, bool) {
	if len(id) != uploadLen {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseUint(id[:10], 10, 63)
	return time.Unix(int64(seconds), 0).UTC(), err == nil && seconds > 0
}

func encode(id string) string { return base64.StdEncoding.EncodeToString([]byte(id)) }

func unknown(op string, up objstore.Multipart) error {
	return &objstore.Error{Op: op, Key: up.Key, Kind: objstore.ErrNotFound}
}

func (s *store) CompleteMultipart(ctx context.Context, up objstore.Multipart, parts []objstore.Part, cond objstore.Condition) (objstore.Info, error) {
	var ids []string
	for _, p := range parts {
		upload, block, ok := parseBlock(encode(string(p.ETag)), p.Size)
		if !ok || upload != up.ID || block.Number != p.Number {
			return objstore.Info{}, &objstore.Error{Op: "CompleteMultipart", Key: up.Key, Kind: objstore.ErrInvalidPart}
		}
		ids = append(ids, encode(string(p.ETag)))
	}
	return s.commit(ctx, "CompleteMultipart", up.Key, ids, cond)
}

// commit makes the object of blocks, and frees the others.
func (s *store) commit(ctx context.Context, op, key string, ids []string, cond objstore.Condition) (objstore.Info, error) {
	out, err := s.client.NewBlockBlobClient(key).CommitBlockList(ctx, ids, &blockblob.CommitBlockListOptions{AccessConditions: conditions(cond)})
	if err != nil {
		return objstore.Info{}, failure(op, key, true, err)
	}
	return objstore.Info{ETag: etag(out.ETag), LastModified: value(out.LastModified), Date: value(out.Date)}, nil
}

// AbortMultipart makes an object of no blocks, which frees them all, and deletes it.
func (s *store) AbortMultipart(ctx context.Context, up objstore.Multipart) (time.Time, error) {
	const op = "AbortMultipart"
	if _, _, err := s.blocks(ctx, op, up); err != nil {
		return time.Time{}, unlessFound(err)
	}
	empty, err := s.commit(ctx, op, up.Key, nil, objstore.Condition{IfAbsent: true})
	if errors.Is(err, objstore.ErrPrecondition) {
		// There is an object: this upload's, or one that was there before.
		if _, _, err := s.blocks(ctx, op, up); err != nil {
			return time.Time{}, unlessFound(err)
		}
		return time.Time{}, &objstore.Error{Op: op, Key: up.Key, Kind: objstore.ErrUnsupported, Date: objstore.Date(err), Err: errors.New("there is an object at the key")}
	}
	if err != nil {
		return time.Time{}, err
	}
	date, err := s.Delete(ctx, up.Key, objstore.Condition{IfMatch: empty.ETag})
	if errors.Is(err, objstore.ErrNotFound) || errors.Is(err, objstore.ErrPrecondition) {
		return objstore.Date(err), nil
	}
	return date, err
}

// unlessFound returns the error of a read within a write: it is unclear if it is temporary.
func unlessFound(err error) error {
	if errors.Is(err, objstore.ErrTemporary) {
		return errors.Join(objstore.ErrUnclear, err)
	}
	return err
}

// ListMultiparts asks for the blocks of each empty blob: among those are the blobs that have
// nothing but blocks.
func (s *store) ListMultiparts(ctx context.Context, opts objstore.MultipartOptions) (*objstore.MultipartPage, error) {
	out, err := s.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{
		Prefix: optional(opts.Prefix), Marker: optional(opts.Next), MaxResults: limit(opts.Limit),
		Include: container.ListBlobsInclude{UncommittedBlobs: true},
	}).NextPage(ctx)
	if err != nil {
		return nil, failure("ListMultiparts", opts.Prefix, false, err)
	}
	page := &objstore.MultipartPage{Next: value(out.NextMarker), Date: value(out.Date)}
	for _, info := range infos(out.Segment.BlobItems) {
		if info.Size != 0 {
			continue
		}
		byUpload, _, err := s.uncommitted(ctx, "ListMultiparts", info.Key)
		if errors.Is(err, objstore.ErrNotFound) {
			continue // it was completed or aborted meanwhile
		}
		if err != nil {
			return nil, err
		}
		if len(byUpload) > 0 {
			// Of several uploads of a key, the later ones show when the first is gone.
			id := slices.Min(slices.Collect(maps.Keys(byUpload)))
			began, _ := created(id)
			page.Uploads = append(page.Uploads, objstore.Multipart{Key: info.Key, ID: id, Created: began})
		}
	}
	return page, nil
}
