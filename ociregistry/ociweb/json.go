package ociweb

import "bytes"

const (
	// maxJSON is the maximum number of bytes that a page shows of a text, which is indented.
	maxJSON = 256 << 10

	// maxIndent is the deepest level that is indented further than the one around it.
	maxIndent = 20
)

// jsonPage is the text of a manifest, and of the configuration of an image.
type jsonPage struct {
	Name    string
	URL     string // of the manifest's page
	Parts   []jsonPart
	Problem string
}

// jsonPart is one text.
type jsonPart struct {
	Title, Digest, MediaType string
	Text                     string
	Cut                      bool // there is more of it
}

func (x *exchange) json() (page, error) {
	d, err := x.readManifest(x.ref)
	if err != nil {
		return page{}, err
	}
	p := jsonPage{Name: reference(x.repo, x.ref), URL: x.manifestURL(x.ref)}
	if d.tooLarge {
		p.Problem = "The manifest has " + size(d.desc.Size) + ", and is not read: pages read up to " + size(x.opts.MaxManifestSize) + "."
	} else {
		p.Parts = append(p.Parts, newJSONPart("Manifest", string(d.desc.Digest), d.desc.MediaType, d.text))
	}
	if d.isImage() {
		c, problem := x.readConfig(d)
		if p.Problem = problem; problem == "" {
			p.Parts = append(p.Parts, newJSONPart("Configuration", string(d.Config.Digest), d.Config.MediaType, c.text))
		}
	}
	return page{"json", "JSON of " + p.Name, p}, nil
}

func newJSONPart(title, digest, mediaType string, text []byte) jsonPart {
	p := jsonPart{Title: title, Digest: clean(digest), MediaType: clean(mediaType)}
	indented, whole := indent(text, maxJSON)
	p.Text, p.Cut = visible(indented), !whole
	return p
}

// visible is clean for a text of several lines.
func visible(text []byte) string {
	lines := bytes.Split(text, []byte("\n"))
	for i, line := range lines {
		lines[i] = []byte(cleanLine(string(line)))
	}
	return string(bytes.Join(lines, []byte("\n")))
}

// indent returns JSON with a line for each value, up to limit bytes, and whether that is all. It
// neither fails nor needs much memory for any text: what is no JSON comes out in some way.
func indent(text []byte, limit int) (out []byte, whole bool) {
	depth, quoted, escaped := 0, false, false
	line := func() {
		out = append(out, '\n')
		for range min(max(depth, 0), maxIndent) {
			out = append(out, ' ', ' ')
		}
	}
	for i, c := range text {
		if len(out) >= limit {
			return out, false
		}
		switch {
		case quoted:
			out = append(out, c)
			quoted = escaped || c != '"'
			escaped = !escaped && c == '\\'
		case c == '"':
			quoted = true
			out = append(out, c)
		case c == '{' || c == '[':
			depth++
			out = append(out, c)
			if next := skipSpace(text[i+1:]); next != '}' && next != ']' {
				line()
			}
		case c == '}' || c == ']':
			depth--
			if last := out[max(len(out)-1, 0):]; !bytes.Equal(last, []byte("{")) && !bytes.Equal(last, []byte("[")) {
				line()
			}
			out = append(out, c)
		case c == ',':
			out = append(out, c)
			line()
		case c == ':':
			out = append(out, c, ' ')
		case c != ' ' && c != '\t' && c != '\r' && c != '\n':
			out = append(out, c)
		}
	}
	return out, true
}

// skipSpace returns the first byte that is no white space, or 0.
func skipSpace(text []byte) byte {
	if rest := bytes.TrimLeft(text, " \t\r\n"); len(rest) > 0 {
		return rest[0]
	}
	return 0
}
