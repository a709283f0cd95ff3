package ordered

import "context"

// BatchSize is how many strings [List] asks for at a time. It is a little more than
// a page of 100.
const BatchSize = 128

// List calls use for the strings that come after a string, batch by batch, until
// use reports false or an error. So no lock is held while the caller has one of
// them: next appends the first [BatchSize] that follow after to an empty batch, or
// all if there are fewer.
func List(ctx context.Context, after string, next func(batch []string, after string) ([]string, error), use func(batch []string) (more bool, err error)) error {
	batch := make([]string, 0, BatchSize)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if batch, err = next(batch[:0], after); err != nil {
			return err
		}
		if more, err := use(batch); !more || err != nil {
			return err
		}
		if len(batch) < BatchSize {
			return nil
		}
		after = batch[len(batch)-1]
	}
}
