package manifest

import (
	"encoding/json"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestReadNames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		text  string
		names []string
		err   string
	}{
		{name: "names", text: `{"name":"a/b","tags":["v1","v2"]}`, names: []string{"v1", "v2"}},
		{name: "spaces", text: "\n{ \"tags\" : [ \"v1\" ,\t\"v2\" ] }\n", names: []string{"v1", "v2"}},
		{name: "escapes", text: `{"t\u0061gs":["\u0041\/"]}`, names: []string{"A/"}},
		{name: "null among them", text: `{"tags":["v1",null]}`, names: []string{"v1", ""}},
		{name: "twice", text: `{"tags":["v1","v2"],"tags":["v3"]}`, names: []string{"v3"}},
		{name: "other fields", text: `{"a":{"tags":[1]},"b":[["tags"]],"tags":["v1"],"c":1e5}`, names: []string{"v1"}},
		{name: "none", text: `{"tags":[]}`},
		{name: "null", text: `{"tags":null}`},
		{name: "no field", text: `{}`},
		{name: "array", text: `["v1"]`, err: `not a JSON object`},
		{name: "nothing", text: ``, err: `not a JSON object`},
		{name: "other type", text: `{"tags":{}}`, err: `its field tags has the wrong JSON type`},
		{name: "other type of a name", text: `{"tags":["v1",2]}`, err: `its field tags has the wrong JSON type`},
		{name: "cut off", text: `{"tags":["v1",`, err: `not well-formed JSON near byte 14`},
		{name: "more behind it", text: `{"tags":["v1"]}]`, err: `not well-formed JSON near byte 15`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			names, err := ReadNames(test.text, "tags")
			qt.Check(t, qt.DeepEquals(append([]string(nil), names...), test.names))
			if test.err != "" {
				qt.Check(t, qt.ErrorMatches(err, test.err))
				return
			}
			qt.Check(t, qt.IsNil(err))
			var want struct{ Tags []string }
			qt.Check(t, qt.IsNil(json.Unmarshal([]byte(test.text), &want)))
			qt.Check(t, qt.DeepEquals(append([]string(nil), want.Tags...), test.names))
		})
	}
}
