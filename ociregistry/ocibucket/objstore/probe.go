package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-40b21970/oci/internal/parallel"
)

const (
	probeRounds = 4 // of races for each condition
	probeRacers = 8
)

// Probe finds out whether a store keeps its conditions, one after the other and when requests
// race: some services ignore conditions, others check them without being atomic. It writes
// below prefix, under keys that are new, and removes what it wrote if the context does not end
// before. It takes some 100 requests, and the time of some 25 of them. Errors: [ErrConditions] with what the store does, and
// those of the store's methods.
//
// A race that a store would lose now and then may go well here: a failure proves something, a
// success does not prove as much.
func Probe(ctx context.Context, s Store, prefix string) error {
	p := &prober{s: Retry(s, nil), prefix: prefix + rand.Text() + "/"}
	defer p.clean(context.WithoutCancel(ctx))
	steps := []func(context.Context) error{p.ifAbsent, p.ifMatch, p.deleteIfMatch, p.completeIfAbsent, p.listed, p.races}
	errs := make([]error, len(steps))
	var wg sync.WaitGroup
	for i, step := range steps { // they share no keys
		wg.Go(func() { errs[i] = step(ctx) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("probing: %w", err)
		}
	}
	return nil
}

type prober struct {
	s      Store
	prefix string

	mu   sync.Mutex
	keys []string
}

// key returns a new key.
func (p *prober) key() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.prefix + rand.Text()
	p.keys = append(p.keys, key)
	return key
}

// clean removes what was written. What cannot be removed stays.
func (p *prober) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	parallel.Do(probeRacers, len(p.keys), func(i int) error {
		if _, err := p.s.Delete(ctx, p.keys[i], Condition{}); ctx.Err() != nil || errors.Is(err, ErrDenied) {
			return err
		}
		return nil
	})
}

// put writes something new, and returns it and its ETag.
func (p *prober) put(ctx context.Context, key string, cond Condition) (string, ETag, error) {
	text := rand.Text()
	info, err := p.s.Put(ctx, key, []byte(text), cond)
	if err != nil && Unclear(err) {
		return p.settle(ctx, key, text, err)
	}
	return text, info.ETag, err
}

// settle finds out whether an unclear write was carried out. One that was not
// done yet is an error: a probe can be made again.
func (p *prober) settle(ctx context.Context, key, text string, unclear error) (string, ETag, error) {
	body, info, err := ReadAll(ctx, p.s, key, MaxKey)
	if err == nil && string(body) == text {
		return text, info.ETag, nil
	}
	return text, "", errors.Join(unclear, err)
}

// refused returns nil if err says that a condition did not hold. what says what the condition was.
func refused(err error, what string) error {
	switch {
	case err == nil:
		return fmt.Errorf("%w: %s", ErrConditions, what)
	case errors.Is(err, ErrPrecondition), errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

func (p *prober) ifAbsent(ctx context.Context) error {
	key := p.key()
	text, _, err := p.put(ctx, key, Condition{IfAbsent: true})
	if err != nil {
		return err
	}
	_, _, err = p.put(ctx, key, Condition{IfAbsent: true})
	if err := refused(err, "an object was created if absent where one was"); err != nil {
		return err
	}
	return p.has(ctx, key, text, "a write that was refused changed the object")
}

func (p *prober) ifMatch(ctx context.Context) error {
	key := p.key()
	_, _, err := p.put(ctx, key, Condition{IfMatch: "0123456789abcdef0123456789abcdef"})
	if err := refused(err, "an object was replaced if matching where none was"); err != nil {
		return err
	}
	_, first, err := p.put(ctx, key, Condition{})
	if err != nil {
		return err
	}
	text, second, err := p.put(ctx, key, Condition{IfMatch: first})
	if err != nil {
		if errors.Is(err, ErrPrecondition) {
			err = fmt.Errorf("%w: an object was not replaced although it matched: %w", ErrConditions, err)
		}
		return err
	}
	if first == second {
		return fmt.Errorf("%w: an ETag stayed when the bytes changed", ErrConditions)
	}
	_, _, err = p.put(ctx, key, Condition{IfMatch: first})
	if err := refused(err, "an object was replaced by who knew an old one"); err != nil {
		return err
	}
	return p.has(ctx, key, text, "a write that was refused changed the object")
}

func (p *prober) deleteIfMatch(ctx context.Context) error {
	if !p.s.Capabilities().DeleteIfMatch {
		return nil
	}
	key := p.key()
	_, first, err := p.put(ctx, key, Condition{})
	if err != nil {
		return err
	}
	text, second, err := p.put(ctx, key, Condition{})
	if err != nil {
		return err
	}
	_, err = p.s.Delete(ctx, key, Condition{IfMatch: first})
	if err := refused(err, "an object was deleted by who knew an old one"); err != nil {
		return err
	}
	if err := p.has(ctx, key, text, "an object was deleted by who knew an old one"); err != nil {
		return err
	}
	if _, err := p.s.Delete(ctx, key, Condition{IfMatch: second}); err != nil && !errors.Is(err, ErrUnclear) {
		return err
	}
	return nil
}

func (p *prober) completeIfAbsent(ctx context.Context) error {
	key := p.key()
	up, err := p.s.CreateMultipart(ctx, key)
	if err != nil {
		return err
	}
	defer p.s.AbortMultipart(context.WithoutCancel(ctx), up)
	part, err := p.s.PutPart(ctx, up, 1, []byte(rand.Text()))
	if err != nil {
		return err
	}
	// A key that has an object and an upload: on some stores, the object's write ends the upload.
	text, _, err := p.put(ctx, key, Condition{})
	if err != nil {
		return err
	}
	_, err = p.s.CompleteMultipart(ctx, up, []Part{part}, Condition{IfAbsent: true})
	if errors.Is(err, ErrInvalidPart) {
		err = nil
	} else {
		err = refused(err, "an upload was completed if absent where an object was")
	}
	if err != nil {
		return err
	}
	return p.has(ctx, key, text, "an upload that was refused changed the object")
}

// listed makes sure that a list shows each write before it.
func (p *prober) listed(ctx context.Context) error {
	key := p.key()
	if _, _, err := p.put(ctx, key, Condition{}); err != nil {
		return err
	}
	if err := p.lists(ctx, key, 1); err != nil {
		return err
	}
	if _, err := p.s.Delete(ctx, key, Condition{}); err != nil {
		return err
	}
	return p.lists(ctx, key, 0)
}

func (p *prober) lists(ctx context.Context, key string, want int) error {
	page, err := p.s.List(ctx, ListOptions{Prefix: key})
	if err == nil && len(page.Objects) != want {
		err = fmt.Errorf("%w: a list does not show the write before it", ErrConditions)
	}
	return err
}

// has makes sure that the object has text.
func (p *prober) has(ctx context.Context, key, text, what string) error {
	body, _, err := ReadAll(ctx, p.s, key, MaxKey)
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrTooLarge) {
		return err
	}
	if string(body) != text {
		return fmt.Errorf("%w: %s", ErrConditions, what)
	}
	return nil
}

// races lets several writers try the same, of whom one may succeed.
func (p *prober) races(ctx context.Context) error {
	for range probeRounds {
		key := p.key()
		if err := p.race(ctx, key, Condition{IfAbsent: true}); err != nil {
			return err
		}
		_, info, err := ReadAll(ctx, p.s, key, MaxKey)
		if err != nil {
			return err
		}
		if err := p.race(ctx, key, Condition{IfMatch: info.ETag}); err != nil {
			return err
		}
	}
	return nil
}

func (p *prober) race(ctx context.Context, key string, cond Condition) error {
	var wg sync.WaitGroup
	var won [probeRacers]string
	var errs [probeRacers]error
	for i := range probeRacers {
		wg.Go(func() {
			text := rand.Text()
			_, errs[i] = p.s.Put(ctx, key, []byte(text), cond)
			if errs[i] == nil {
				won[i] = text
			}
		})
	}
	wg.Wait()
	winners, unclear := 0, false
	var winner string
	for i, err := range errs {
		switch {
		case err == nil:
			winners++
			winner = won[i]
		case errors.Is(err, ErrPrecondition), errors.Is(err, ErrConflict), errors.Is(err, ErrNotFound):
		case Unclear(err):
			unclear = true
		default:
			return err
		}
	}
	switch {
	case winners > 1:
		return fmt.Errorf("%w: of %d writers at once, under a condition that one can meet, %d succeeded", ErrConditions, probeRacers, winners)
	case winners == 1:
		return p.has(ctx, key, winner, "who lost a race changed the object")
	case !unclear:
		return fmt.Errorf("%w: of %d writers at once none succeeded", ErrConditions, probeRacers)
	}
	return nil
}
