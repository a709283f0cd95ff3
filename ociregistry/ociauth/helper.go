package ociauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/seed-40b21970/oci/internal/flight"
)

// HelperRunner asks the credential helper with the given name, without the prefix
// "docker-credential-", for the credentials for a server. If the helper has none, it
// returns the zero ConfigEntry and a nil error. If there is no such helper, it returns
// an error that matches [ErrHelperNotFound]. It must be safe for concurrent use.
type HelperRunner = func(helperName string, serverURL string) (ConfigEntry, error)

// ErrHelperNotFound is returned by a [HelperRunner] if a credential helper is not
// installed.
var ErrHelperNotFound = errors.New("credential helper not found")

const (
	// helperTimeout is long enough for a helper that asks a person, and keeps one
	// that hangs from hanging the program.
	helperTimeout = time.Minute

	maxHelperAnswer = 64 << 10 // bytes

	// identityUsername is the username of a secret that is a refresh token (Docker's
	// credential helper protocol).
	identityUsername = "<token>"
)

// ExecHelper is a [HelperRunner] that runs the program docker-credential-NAME, for at
// most a minute. Its errors never contain the output of the program.
func ExecHelper(helperName, serverURL string) (ConfigEntry, error) {
	return ExecHelperWithEnv(nil)(helperName, serverURL)
}

// ExecHelperWithEnv returns a function like [ExecHelper] that runs programs in the given
// environment, in the form of [os.Environ]. A nil env means the environment of the
// current process, whose PATH is used to find the program in any case.
func ExecHelperWithEnv(env []string) HelperRunner {
	return func(helperName, serverURL string) (ConfigEntry, error) {
		ctx, cancel := context.WithTimeout(context.Background(), helperTimeout)
		defer cancel()
		return execHelper(ctx, env, helperName, serverURL)
	}
}

// helperDelay is how long the output of a helper that has ended is waited for, which a child of
// it, such as an agent, may hold open.
var helperDelay = 5 * time.Second

func execHelper(ctx context.Context, env []string, helperName, serverURL string) (ConfigEntry, error) {
	if helperName == "" || strings.ContainsAny(helperName, `/\`) {
		return ConfigEntry{}, fmt.Errorf("%w: %q is not a valid name", ErrHelperNotFound, helperName)
	}
	program := "docker-credential-" + helperName
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Env = env
	cmd.Stdin = strings.NewReader(serverURL)
	var out boundedBuffer
	cmd.Stdout = &out
	cmd.WaitDelay = helperDelay
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && out.buf.Len() > 0 {
		err = nil // the helper itself has succeeded
	}
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return ConfigEntry{}, fmt.Errorf("%w: %s", ErrHelperNotFound, program)
	case out.full: // which may end the program before it ends by itself
		return ConfigEntry{}, fmt.Errorf("%s: %w", program, errLongAnswer)
	case ctx.Err() != nil:
		return ConfigEntry{}, fmt.Errorf("%s did not answer in time: %w", program, context.Cause(ctx))
	case err != nil && saysNotFound(out.buf.Bytes()):
		return ConfigEntry{}, nil
	case err != nil:
		return ConfigEntry{}, fmt.Errorf("%s: %w", program, err)
	}
	entry, err := parseHelperAnswer(out.buf.Bytes())
	if err != nil {
		return ConfigEntry{}, fmt.Errorf("%s: %w", program, err)
	}
	return entry, nil
}

// parseHelperAnswer parses the output of a helper. A helper that writes nothing has no
// credentials.
func parseHelperAnswer(data []byte) (ConfigEntry, error) {
	var answer struct{ Username, Secret string }
	if data = trimText(data); len(data) == 0 {
		return ConfigEntry{}, nil
	}
	if json.Unmarshal(data, &answer) != nil { // the error could contain a part of the secret
		return ConfigEntry{}, errors.New("the answer is not the JSON of credentials")
	}
	if answer.Username == identityUsername {
		return ConfigEntry{RefreshToken: answer.Secret}, nil
	}
	return ConfigEntry{Username: answer.Username, Password: answer.Secret}, nil
}

// saysNotFound reports whether the output of a helper that failed means that it has no
// credentials. The protocol has no other way to say so.
func saysNotFound(answer []byte) bool {
	return bytes.Contains(bytes.ToLower(answer), []byte("credentials not found"))
}

var errLongAnswer = fmt.Errorf("the answer is larger than %d bytes", maxHelperAnswer)

// boundedBuffer is a [bytes.Buffer] that fails when a program writes too much. It has no
// ReadFrom method, which would read without a bound.
type boundedBuffer struct {
	buf  bytes.Buffer
	full bool // the program has written too much
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > maxHelperAnswer {
		b.full = true
		return 0, errLongAnswer
	}
	return b.buf.Write(p)
}

// helperMemory is how long the answer of a helper is cached, for programs that pull from
// many repositories of a registry at once.
const helperMemory = 10 * time.Second

// helpers runs credential helpers, and caches their answers.
type helpers struct {
	run   HelperRunner
	calls flight.Group[helperKey, ConfigEntry]

	mu      sync.Mutex
	answers map[helperKey]helperAnswer
}

type helperKey struct{ name, serverURL string }

type helperAnswer struct {
	entry ConfigEntry
	until time.Time
}

func newHelpers(run HelperRunner) *helpers {
	return &helpers{run: run, answers: make(map[helperKey]helperAnswer)}
}

func (h *helpers) get(key helperKey) (ConfigEntry, error) {
	if entry, ok := h.cached(key); ok {
		return entry, nil
	}
	return h.calls.Do(context.Background(), key, func(context.Context) (ConfigEntry, error) {
		if entry, ok := h.cached(key); ok {
			return entry, nil
		}
		entry, err := h.run(key.name, key.serverURL)
		if err != nil {
			return ConfigEntry{}, err
		}
		h.add(key, entry)
		return entry, nil
	})
}

func (h *helpers) cached(key helperKey) (ConfigEntry, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := h.answers[key]
	return a.entry, ok && time.Now().Before(a.until)
}

func (h *helpers) add(key helperKey, entry ConfigEntry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for k, a := range h.answers {
		if !now.Before(a.until) {
			delete(h.answers, k)
		}
	}
	h.answers[key] = helperAnswer{entry, now.Add(helperMemory)}
}
