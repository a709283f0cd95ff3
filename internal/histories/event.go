package histories

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// What an Op does.
const (
	putManifest    = "put manifest"
	getTag         = "get tag"
	headTag        = "head tag"
	getManifest    = "get manifest"
	headManifest   = "head manifest"
	deleteTag      = "delete tag"
	deleteManifest = "delete manifest"
	pushBlob       = "push blob"
	getBlob        = "get blob"
	headBlob       = "head blob"
	deleteBlob     = "delete blob"
	mountBlob      = "mount blob"
	openUpload     = "open upload"
	sendChunk      = "send chunk"
	askUpload      = "ask upload"
	commitUpload   = "commit upload"
	cancelUpload   = "cancel upload"
	listTags       = "list tags"
	listReferrers  = "list referrers"
	listCatalog    = "list catalog"
)

// Op is what a client asks for. Content goes by its name in the universe.
type Op struct {
	Do          string   `json:"do"`
	Repository  string   `json:"repo,omitempty"` // empty for the catalog
	Tag         string   `json:"tag,omitempty"`  // for a push: the ref, unless it is the digest
	Tags        []string `json:"tags,omitempty"` // further ones
	Manifest    string   `json:"manifest,omitempty"`
	Blob        string   `json:"blob,omitempty"`
	IfMatch     []string `json:"ifMatch,omitempty"` // names of manifests, or "*"
	IfNoneMatch []string `json:"ifNoneMatch,omitempty"`
	From        string   `json:"from,omitempty"`    // repository to mount from, empty for any
	Session     int      `json:"session,omitempty"` // from 1; for what may open one, the number that it would get
	Piece       *piece   `json:"piece,omitempty"`   // of a chunk that is sent
	Offset      int64    `json:"offset,omitempty"`  // where it belongs; -1 is the end of what is there
	After       string   `json:"after,omitempty"`   // where a page of a list begins
	N           int      `json:"n,omitempty"`       // its size
}

// Outcome is what a client got.
type Outcome struct {
	Status  int      `json:"status,omitempty"` // of HTTP; 0 if it is not known what became of the operation
	Code    string   `json:"code,omitempty"`   // of an error
	Got     string   `json:"got,omitempty"`    // the manifest that a tag points at
	Size    int64    `json:"size,omitempty"`   // of an upload, or -1 if that was not told
	List    []string `json:"list,omitempty"`
	Failure string   `json:"failure,omitempty"` // the answer of a server that failed
	Wrong   string   `json:"wrong,omitempty"`   // what is wrong with an answer whatever the state is
}

// Event is an operation and its outcome.
type Event struct {
	Client int           `json:"client"`
	Server string        `json:"server"`
	Call   time.Duration `json:"call"`
	Return time.Duration `json:"return"` // if the outcome is not known: when nothing can come of it any more
	Op
	Outcome
}

// unknown reports whether it is not known what became of the operation.
func (ev *Event) unknown() bool { return ev.Status == 0 && ev.Wrong == "" }

func (op Op) String() string {
	var b strings.Builder
	b.WriteString(op.Do)
	add := func(format, s string) {
		if s != "" {
			fmt.Fprintf(&b, format, s)
		}
	}
	add(" %s", op.Repository)
	add(" %s", op.Manifest)
	add(" %s", op.Blob)
	add(":%s", op.Tag)
	add(" and %s", strings.Join(op.Tags, ","))
	add(" if %s", strings.Join(op.IfMatch, ","))
	add(" if not %s", strings.Join(op.IfNoneMatch, ","))
	add(" from %s", op.From)
	if op.Session > 0 {
		fmt.Fprintf(&b, " #%d", op.Session)
	}
	if op.Piece != nil {
		fmt.Fprintf(&b, " %v at %d", op.Piece, op.Offset)
	}
	if op.N > 0 {
		fmt.Fprintf(&b, " %d after %q", op.N, op.After)
	}
	return b.String()
}

func (o Outcome) String() string {
	switch {
	case o.Wrong != "":
		return "WRONG: " + o.Wrong
	case o.Status == 0:
		return "unknown"
	case o.Code != "":
		return o.Code
	case o.Got != "":
		return o.Got
	case o.List != nil:
		return fmt.Sprint(o.List)
	case o.Size > 0:
		return fmt.Sprint(o.Status, " size ", o.Size)
	}
	return fmt.Sprint(o.Status)
}

func (ev *Event) String() string {
	return fmt.Sprintf("%9.3f-%9.3fms client %2d server %-5s %v -> %v", ms(ev.Call), ms(ev.Return), ev.Client, ev.Server, ev.Op, ev.Outcome)
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// isSuccess reports whether the operation succeeded.
func (o Outcome) isSuccess() bool { return o.Status >= 200 && o.Status < 300 }

// indefinite reports whether a status leaves open what became of a request.
func indefinite(status int) bool {
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
}

// writeHistory writes events, one a line, so that readHistory can read them.
func writeHistory(w io.Writer, events []*Event) error {
	enc := json.NewEncoder(w)
	for _, ev := range events {
		if err := enc.Encode(ev); err != nil {
			return err
		}
	}
	return nil
}

func readHistory(r io.Reader) (events []*Event, err error) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		ev := new(Event)
		if err := json.Unmarshal(lines.Bytes(), ev); err != nil {
			return nil, err
		}
		events = append(events, ev)
	}
	return events, nil
}
