package ocigc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// ParsePolicies parses a file of policies, such as
//
//	{
//	  "policies": [{
//	    "repositories": ["team/**", "app"],
//	    "untagged": true, "untaggedDelay": "24h",
//	    "dangling": true, "danglingDelay": "1h",
//	    "keep": [
//	      {"semver": true, "newest": 10},
//	      {"match": "^main-", "lastPushed": 5, "pushedWithin": "30d"},
//	      {"pulledWithin": "90d"}
//	    ]
//	  }]
//	}
//
// with the fields of [Policy] and [TagRule], all of which can be missing. A duration is a
// number of days, such as "30d", or has the form of [time.ParseDuration]; it is not
// negative. Fields that are not known are errors, and so is anything that [NewSelector]
// refuses. The error says which policy is wrong, and where.
func ParsePolicies(data []byte) ([]Policy, error) {
	var file struct {
		Policies []json.RawMessage `json:"policies"`
	}
	if err := decode(data, &file); err != nil {
		return nil, located(data, err)
	}
	if file.Policies == nil {
		return nil, errors.New("there are no policies")
	}
	policies := make([]Policy, len(file.Policies))
	for i, text := range file.Policies {
		var err error
		if policies[i], err = parsePolicy(text); err != nil {
			return nil, fmt.Errorf("policies[%d]%w", i, err)
		}
	}
	_, err := NewSelector(&Options{Policies: policies})
	return policies, err
}

// parsePolicy returns errors that begin with a dot or a colon, and are to follow where the
// policy is.
func parsePolicy(text []byte) (Policy, error) {
	var p struct {
		Repositories  []string          `json:"repositories"`
		Untagged      bool              `json:"untagged"`
		UntaggedDelay duration          `json:"untaggedDelay"`
		Dangling      bool              `json:"dangling"`
		DanglingDelay duration          `json:"danglingDelay"`
		Keep          []json.RawMessage `json:"keep"`
	}
	if err := decode(text, &p); err != nil {
		return Policy{}, fmt.Errorf(": %w", err)
	}
	policy := Policy{
		Repositories:  p.Repositories,
		Untagged:      p.Untagged,
		UntaggedDelay: p.UntaggedDelay.orNone(),
		Dangling:      p.Dangling,
		DanglingDelay: p.DanglingDelay.orNone(),
	}
	for i, text := range p.Keep {
		rule, err := parseTagRule(text)
		if err != nil {
			return Policy{}, fmt.Errorf(".keep[%d]: %w", i, err)
		}
		policy.Keep = append(policy.Keep, rule)
	}
	return policy, nil
}

func parseTagRule(text []byte) (TagRule, error) {
	var r struct {
		Match        string   `json:"match"`
		SemVer       bool     `json:"semver"`
		PushedWithin duration `json:"pushedWithin"`
		PulledWithin duration `json:"pulledWithin"`
		Newest       int      `json:"newest"`
		LastPushed   int      `json:"lastPushed"`
	}
	err := decode(text, &r)
	return TagRule{
		Match:        r.Match,
		SemVer:       r.SemVer,
		PushedWithin: r.PushedWithin.Duration,
		PulledWithin: r.PulledWithin.Duration,
		Newest:       r.Newest,
		LastPushed:   r.LastPushed,
	}, err
}

// decode decodes a single JSON value without unknown fields.
func decode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more than one JSON value")
	}
	return nil
}

// located returns err with the line and column of a mistake in the syntax.
func located(data []byte, err error) error {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return err
	}
	before := string(data[:min(int(syntax.Offset), len(data))])
	line, column := strings.Count(before, "\n")+1, len(before)-strings.LastIndex(before, "\n")-1
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}

// duration is a duration in a file.
type duration struct {
	time.Duration
	given bool
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := parseDuration(string(text))
	if err != nil || parsed < 0 {
		return fmt.Errorf("%q is not a duration such as 12h or 30d", text)
	}
	*d = duration{parsed, true}
	return nil
}

func parseDuration(text string) (time.Duration, error) {
	const day, most = 24 * time.Hour, 100_000 // days
	number, ok := strings.CutSuffix(text, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	days, err := strconv.ParseUint(number, 10, 32)
	if err == nil && days > most {
		err = strconv.ErrRange
	}
	return time.Duration(days) * day, err
}

// orNone returns the delay of a policy, in which zero is not what a file means by it.
func (d duration) orNone() time.Duration {
	if d.given && d.Duration == 0 {
		return -1
	}
	return d.Duration
}
