package manifest

import "strings"

// ReadNames reads a field of a JSON object that is an array of strings, as in a list of
// tags or repositories (specification, section "Listing Tags"). It returns nil if the field
// is null or missing.
//
// The results are substrings of text, unless they have escapes there.
func ReadNames(text, field string) (names []string, err error) {
	r := reader{text: text}
	err = r.document(func(key string) error {
		if key != field {
			return r.skip()
		}
		names = names[:0]
		return r.arrayField(field, func() error {
			if names == nil {
				names = make([]string, 0, strings.Count(text, `","`)+1)
			}
			var name string
			err := r.stringField(field, &name)
			names = append(names, name)
			return err
		})
	})
	if err != nil {
		return nil, r.located(err)
	}
	return names, nil
}
