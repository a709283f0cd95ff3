package manifest

import (
	"encoding/json"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestReadIndex(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		text    string
		entries []string
		fields  map[string]string
		err     string
	}{
		{name: "empty", text: `{}`},
		{name: "no entries", text: `{"manifests":[]}`},
		{name: "null", text: `{"manifests":null}`},
		{
			name:    "spaces",
			text:    " {\n \"schemaVersion\" : 2 , \"manifests\" : [ {\"a\": [1]} ,\n\t\"x\" ] , \"annotations\":{\"b\":\"c\"}}\n",
			entries: []string{`{"a": [1]}`, `"x"`},
			fields:  map[string]string{"schemaVersion": "2", "annotations": `{"b":"c"}`},
		},
		{name: "escapes", text: `{"\u006danifests":["\u0041"],"\n":"\""}`, entries: []string{`"\u0041"`}, fields: map[string]string{"\n": `"\""`}},
		{name: "array", text: `[]`, err: `not a JSON object`},
		{name: "nothing", text: ``, err: `not a JSON object`},
		{name: "other type", text: `{"manifests":{}}`, err: `its field manifests has the wrong JSON type`},
		{name: "cut off", text: `{"manifests":[{"a":1},`, entries: []string{`{"a":1}`}, err: `not well-formed JSON near byte 22`},
		{name: "more behind it", text: `{} {}`, err: `not well-formed JSON near byte 3`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var entries []string
			var fields map[string]string
			err := ReadIndex(test.text, func(value string) {
				entries = append(entries, value)
			}, func(name, value string) {
				if fields == nil {
					fields = make(map[string]string)
				}
				fields[name] = value
			})
			if test.err != "" {
				qt.Check(t, qt.ErrorMatches(err, test.err))
			} else {
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.IsTrue(json.Valid([]byte(test.text))))
			}
			qt.Check(t, qt.DeepEquals(entries, test.entries))
			qt.Check(t, qt.DeepEquals(fields, test.fields))
		})
	}
}
