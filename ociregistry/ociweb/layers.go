package ociweb

import (
	"strings"
)

// layerList is the layers of an image, with what made them.
type layerList struct {
	Rows  []layerRow
	Bar   bar
	Steps bool   // the rows have steps of the history
	Note  string // what is not shown
}

// layerRow is a layer, or a step of the history that has none.
type layerRow struct {
	Number  int // 0 for a step without a layer
	Made    string
	Digest  string
	Size    string
	Type    string
	Segment segment
}

// newLayerList returns layers with the steps of the history that made them. If the steps are
// not as many as the layers, they are not what made them, and are left out.
func newLayerList(layers []descriptor, history []step) layerList {
	var l layerList
	made := 0
	for _, s := range history {
		if !s.EmptyLayer {
			made++
		}
	}
	switch {
	case len(history) == 0:
	case made == len(layers):
		l.Steps = true
	default:
		l.Note = "The history does not fit the layers, and is not shown."
	}
	sizes := make([]int64, len(layers))
	for i := range layers {
		sizes[i] = layers[i].Size
	}
	l.Bar = newBar(sizes, nil)
	if l.Steps {
		l.addSteps(layers, history)
	} else {
		for i := range layers {
			l.add(layerRow{}, i, layers)
		}
	}
	if n := len(l.Rows) - maxLayers; n > 0 {
		l.Rows = l.Rows[:maxLayers]
		l.Note = "Another " + count(n, "row is", "rows are") + " not shown."
	}
	return l
}

func (l *layerList) addSteps(layers []descriptor, history []step) {
	n := 0
	for _, s := range history {
		if len(l.Rows) > maxLayers {
			l.Rows = append(l.Rows, layerRow{}) // is counted
			continue
		}
		made := clean(withoutNoise(s.CreatedBy))
		if made == "" {
			made = clean(s.Comment)
		}
		row := layerRow{Made: made}
		if s.EmptyLayer {
			l.Rows = append(l.Rows, row)
			continue
		}
		l.add(row, n, layers)
		n++
	}
}

// add adds a row for the i-th layer.
func (l *layerList) add(row layerRow, i int, layers []descriptor) {
	d := &layers[i]
	row.Number, row.Digest, row.Size, row.Type = i+1, short(d.Digest), size(d.Size), shortType(d.MediaType)
	if i < len(l.Bar.Segments) {
		row.Segment = l.Bar.Segments[i]
	}
	l.Rows = append(l.Rows, row)
}

// withoutNoise removes what builders add to each command of a Dockerfile.
func withoutNoise(s string) string {
	s = strings.TrimPrefix(s, "/bin/sh -c #(nop) ")
	if rest, ok := strings.CutPrefix(strings.TrimPrefix(s, "RUN "), "/bin/sh -c "); ok {
		s = "RUN " + rest
	}
	return strings.TrimSpace(strings.TrimSuffix(s, "# buildkit"))
}

// shortType returns the part of a layer's media type by which people tell them apart.
func shortType(mediaType string) string {
	s := clip(clean(mediaType), 80)
	for _, prefix := range []string{"application/vnd.oci.image.layer.v1.", "application/vnd.docker.image.rootfs.diff.", "application/vnd.oci.image.layer."} {
		s = strings.TrimPrefix(s, prefix)
	}
	return s
}

// barWidth is the width of a bar in its own units.
const barWidth = 1000

// maxSegments is the maximum number of parts of a bar. The others are too small to be seen.
const maxSegments = 200

// bar is a bar that shows sizes. It is drawn without styles, which the policy of the pages
// forbids in their text.
type bar struct {
	Segments []segment
	Width    int
}

// segment is a part of a bar.
type segment struct {
	X, Width int
	Class    string
}

// newBar returns a bar of the first sizes. Classes says how the segments look; if it is nil,
// neighbours look different.
func newBar(sizes []int64, classes []string) bar {
	var total int64
	for _, s := range sizes {
		total = add(total, s)
	}
	return newBarOf(sizes, classes, total)
}

// newBarOf returns a bar that is as wide as total is large.
func newBarOf(sizes []int64, classes []string, total int64) bar {
	b := bar{Width: barWidth}
	if total <= 0 {
		return b
	}
	var sum int64
	at := 0
	for i, s := range sizes[:min(len(sizes), maxSegments)] {
		sum = add(sum, s)
		end := int(float64(sum) / float64(total) * barWidth)
		seg := segment{X: at, Width: end - at, Class: "s" + string(rune('0'+i%4))}
		if classes != nil {
			seg.Class = classes[i]
		}
		b.Segments = append(b.Segments, seg)
		at = end
	}
	return b
}
