package serve

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/opencontainers/go-digest"
)

// A push that does not fit is refused with both numbers, and a delete makes room. The quota
// holds for what was pushed before the program was started, too.
func TestQuota_RefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"-dir", dir, "-no-sync", "-quota", "team=100", "-quota", "=150"}
	push := func(url, repo, content string) (status int, body string) {
		t.Helper()
		resp, err := http.Post(url+"/"+repo+"/blobs/uploads/?digest="+digest.FromString(content).String(), "application/octet-stream", strings.NewReader(content))
		qt.Assert(t, qt.IsNil(err))
		defer resp.Body.Close()
		var text strings.Builder
		resp.Write(&text)
		return resp.StatusCode, text.String()
	}
	url, _, stop := start(t, args...)
	status, body := push(url, "team/a", strings.Repeat("1", 80))
	qt.Assert(t, qt.Equals(status, http.StatusCreated), qt.Commentf(body))
	qt.Assert(t, qt.Equals(stop(), 0))

	url, _, _ = start(t, args...)
	status, body = push(url, "team/b", strings.Repeat("2", 30))
	qt.Check(t, qt.Equals(status, http.StatusForbidden))
	qt.Check(t, qt.StringContains(body, "DENIED"))
	qt.Check(t, qt.StringContains(body, "the quota of team is 100 bytes; 80 are used, and 30 more do not fit"))
	status, _ = push(url, "teams", strings.Repeat("3", 70))
	qt.Check(t, qt.Equals(status, http.StatusCreated))
	status, body = push(url, "else", "x")
	qt.Check(t, qt.StringContains(body, "the quota of the registry is 150 bytes; 150 are used"), qt.Commentf("%d", status))

	req, err := http.NewRequest("DELETE", url+"/team/a/blobs/"+digest.FromString(strings.Repeat("1", 80)).String(), nil)
	qt.Assert(t, qt.IsNil(err))
	resp, err := http.DefaultClient.Do(req)
	qt.Assert(t, qt.IsNil(err))
	resp.Body.Close()
	qt.Assert(t, qt.Equals(resp.StatusCode, http.StatusAccepted))
	status, body = push(url, "team/b", strings.Repeat("2", 30))
	qt.Check(t, qt.Equals(status, http.StatusCreated), qt.Commentf(body))
}

func TestQuota_RefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"-quota team", "want PREFIX=BYTES"},
		{"-quota team=much", `"much" is not a number of bytes`},
		{"-quota team=0", `"0" is not a number of bytes`},
		{"-quota Team=1", "repository name"},
		{"-quota team=1 -proxy localhost:1", "-quota is not for -proxy and -cache"},
		{"-quota team=1 -cache localhost:1", "-quota is not for -proxy and -cache"},
	} {
		status, _, errs := runProgram(t, strings.Fields(test.args)...)
		qt.Check(t, qt.Equals(status, 2), qt.Commentf(test.args))
		qt.Check(t, qt.StringContains(errs, test.want), qt.Commentf(test.args))
	}
}
