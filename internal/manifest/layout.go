package manifest

// ReadIndex reads the index.json of an image layout. It calls entry with each element of
// manifests, and field with the name and value of each other field. The values are
// well-formed JSON, and substrings of text.
//
// ReadIndex returns an error, with the position, if text is not such an object. It may have
// called entry and field before.
func ReadIndex(text string, entry func(value string), field func(name, value string)) error {
	r := reader{text: text}
	value := func() (string, error) {
		r.next()
		start := r.pos
		err := r.skip()
		return text[start:r.pos], err
	}
	return r.located(r.document(func(name string) error {
		if name == "manifests" {
			return r.arrayField(name, func() error {
				v, err := value()
				if err == nil {
					entry(v)
				}
				return err
			})
		}
		v, err := value()
		if err == nil {
			field(name, v)
		}
		return err
	}))
}
