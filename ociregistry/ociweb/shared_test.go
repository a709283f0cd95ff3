package ociweb_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
	"github.com/seed-40b21970/oci/ociregistry/ociweb"
	"github.com/seed-40b21970/oci/ociserver"
)

// manyRepositories returns content with n repositories, the last of which is app-n.
func manyRepositories(t *testing.T, n int) content {
	c := newContent(t, "")
	for i := range n {
		c.repo = fmt.Sprintf("app-%04d", i+1)
		c.manifest("text/plain", "x", "v1")
	}
	return c
}

func TestRepositories_SearchesShareTheListForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := manyRepositories(t, 1000)
		reg := &spy{Interface: c.reg}
		h := ociweb.New(reg, &ociweb.Options{ShareList: true})
		search := func(q string, names int, want ...string) {
			t.Helper()
			reg.names = 0
			qt.Check(t, qt.DeepEquals(repositoriesOf(page(t, h, "/?q="+q)), want), qt.Commentf("%s", q))
			qt.Check(t, qt.Equals(reg.names, names), qt.Commentf("%s", q))
		}
		search("0999", 256+1000, "app-0999")
		search("1000", 256, "app-1000")
		for _, c.repo = range []string{"app-0001-new", "app-0998-new"} {
			c.manifest("text/plain", "x", "v1")
		}
		search("new", 256, "app-0001-new") // the other is far from the first
		time.Sleep(6 * time.Second)
		search("new", 256+1002, "app-0001-new", "app-0998-new")
		search("nothing", 256)
	})
}

func TestRepositories_PagesOfASharedListHaveEachNameOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := manyRepositories(t, 1000)
		for _, opts := range []ociweb.Options{{}, {MaxNames: 300}, {MaxNames: 999}, {MaxNames: 1000}, {Remote: true, MaxNames: 500}} {
			for _, opts.ShareList = range []bool{false, true} {
				h := ociweb.New(c.reg, &opts)
				var got []string
				for path := "/?q=7"; path != ""; {
					a := page(t, h, path)
					got = append(got, repositoriesOf(a)...)
					path = next(a)
				}
				qt.Check(t, qt.HasLen(got, 271), qt.Commentf("%+v", opts))
				for i, repo := range got {
					qt.Check(t, qt.IsTrue(i == 0 || got[i-1] < repo), qt.Commentf("%+v", opts))
				}
			}
		}
	})
}

func TestRepositories_AreReadForEachRequestUnlessTheListIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := manyRepositories(t, 1000)
		reg := &spy{Interface: c.reg}
		h := ociweb.New(reg, nil)
		for range 2 {
			reg.names = 0
			page(t, h, "/?q=1000")
			qt.Check(t, qt.IsTrue(reg.names >= 1000))
		}
	})
}

// What one client made the pages read is shown to another only if that one may see it.
func TestRepositories_OfASharedListAreAuthorizedForEachRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := manyRepositories(t, 1000)
		for _, c.repo = range []string{"private/last", "public/last"} {
			c.manifest("text/plain", "x", "v1")
		}
		reg := &spy{Interface: c.reg}
		h := ociweb.New(reg, &ociweb.Options{ShareList: true, Authorize: authorizer(new([]ociserver.Access))})
		for _, password := range []string{"opensesame", "", "opensesame"} {
			rec := httptest.NewRecorder()
			req := httptest.NewRequest("GET", "/?q=last", nil)
			req.SetBasicAuth("user", password)
			h.ServeHTTP(rec, req)
			a := checked(t, rec.Result())
			want := []string{"public/last"}
			if password != "" {
				want = []string{"private/last", "public/last"}
			}
			qt.Check(t, qt.DeepEquals(repositoriesOf(a), want))
		}
		qt.Check(t, qt.Equals(reg.names, 3*256+1002))
	})
}

// blocked is a registry whose lists wait after the first names, and may fail then.
type blocked struct {
	ociregistry.Interface
	far    chan error
	panics bool
	lists  atomic.Int32 // that have come so far
	left   atomic.Int32 // that have ended with their contexts
}

func (b *blocked) Repositories(ctx context.Context, startAfter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		n := 0
		for repo, err := range b.Interface.Repositories(ctx, startAfter) {
			if n++; n == 500 {
				b.lists.Add(1)
				if b.panics {
					panic("out of cheese")
				}
				select {
				case err = <-b.far:
				case <-ctx.Done():
					b.left.Add(1)
					err = ctx.Err()
				}
			}
			if !yield(repo, err) || err != nil {
				return
			}
		}
	}
}

func TestRepositories_ConcurrentSearchesReadOneList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := &blocked{Interface: manyRepositories(t, 1000).reg, far: make(chan error)}
		h := ociweb.New(reg, &ociweb.Options{ShareList: true})
		gone, leave := context.WithCancel(t.Context())
		answers := make(chan int)
		search := func(ctx context.Context) {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "GET", "/?q=1000", nil))
			answers <- strings.Count(rec.Body.String(), "./r/app-1000")
		}
		go search(gone)
		synctest.Wait()
		for range 5 {
			go search(t.Context())
		}
		synctest.Wait()
		leave() // who began the list is not who needs it
		qt.Check(t, qt.Equals(<-answers, 0))
		synctest.Wait()
		qt.Check(t, qt.Equals(reg.lists.Load(), 1))
		reg.far <- nil
		for range 5 {
			qt.Check(t, qt.Equals(<-answers, 1))
		}
		qt.Check(t, qt.Equals(reg.lists.Load(), 1))
		qt.Check(t, qt.Equals(reg.left.Load(), 0))
	})
}

func TestRepositories_AListThatFailsOrThatNobodyWaitsForIsNotShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := &blocked{Interface: manyRepositories(t, 1000).reg, far: make(chan error, 1)}
		h := ociweb.New(reg, &ociweb.Options{ShareList: true})
		reg.far <- errors.New("the disk is on fire")
		qt.Check(t, qt.Equals(get(t, h, "/?q=1000").status, 500))

		ctx, leave := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/?q=1000", nil))
		}()
		synctest.Wait()
		leave()
		<-done
		synctest.Wait()
		qt.Check(t, qt.Equals(reg.left.Load(), 1))

		reg.panics = true
		qt.Check(t, qt.Equals(get(t, h, "/?q=1000").status, 500))

		reg.panics = false
		reg.far <- nil
		qt.Check(t, qt.DeepEquals(repositoriesOf(page(t, h, "/?q=1000")), []string{"app-1000"}))
	})
}
