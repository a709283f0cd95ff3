package manifest

// ReadIndex reads the index.json of an image layout. It calls entry with each
// element of manifests, and field with the name and the value of each other
// field, as they are written: they are well-formed JSON, and parts of text.
//
// The error tells where text is not an object of that kind. By then some of it
// may have been told.
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
