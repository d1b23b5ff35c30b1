package dialect

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/relay/envelope"
	"postern/relay/reply"
)

// TestUnfold: a line end and the white space behind it are one space in
// X-MSYS-API.
func TestUnfold(t *testing.T) {
	for in, want := range map[string]string{
		"":              "",
		"a b":           "a b",
		"a\r\n b":       "a b",
		"a\r\n\t  b":    "a b",
		"a\n b":         "a b",
		"a\r\n":         "a ",
		"\n":            " ",
		"a \r\n b":      "a  b",
		"a\r\n \r\n b":  "a  b",
		"a\r\n\r\n b":   "a  b",
		"a\rb":          "a b",
		"a\rb\n c":      "a b c",
		"a\r b\n":       "a b ",
		"ab\r\n c\r\nd": "ab c d",
	} {
		if got := string(unfold([]byte(in))); got != want {
			t.Errorf("unfold(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestMetadataAsItGoesOut: without white space, and none where it is null.
func TestMetadataAsItGoesOut(t *testing.T) {
	for in, want := range map[string]string{
		`{"metadata": { "a" : [ 1, 2 ] } }`: `{"a":[1,2]}`,
		`{"metadata": null}`:                ``,
		`{"metadata": {}}`:                  `{}`,
		`{}`:                                ``,
	} {
		m, err := ParseMsysAPI([]byte("X-MSYS-API: " + in))
		if err != nil || string(m.Metadata) != want {
			t.Errorf("%s: got %q, %v, want %q", in, m.Metadata, err, want)
		}
	}
	for _, in := range []string{"{\"a\":}", "{", "[1", "x"} {
		if _, err := compactMetadata([]byte(in)); err == nil {
			t.Errorf("compactMetadata(%q): no error", in)
		}
	}
}

// TestNamesInXMsysAPI holds the tables of what is known.
func TestNamesInXMsysAPI(t *testing.T) {
	known := `{"campaign_id":"","metadata":{"x":1},"tags":[],"cc":[],"bcc":[],"archive":[],"options":{"open_tracking":true,` +
		`"initial_open":true,"click_tracking":true,"transactional":true,"ip_pool":"","dkim_key":""}}`
	if got := unknownKeys([]byte(known)); len(got) != 0 {
		t.Errorf("not known: %q", got)
	}
	if got := fmt.Sprint(unknownKeys([]byte(`{"b":1,"a":{"ip_pool":1},"Options":{"d":1,"c":1}}`))); got != "[a b options.c options.d]" {
		t.Errorf("got %s", got)
	}
	if got := unknownKeys([]byte(`{"options":7}`)); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	if got := unknownKeys([]byte(`[`)); got != nil {
		t.Errorf("got %q", got)
	}
	if got := fmt.Sprint(unknownKeys([]byte(`{"options":7,"OPTIONS":{"x":1}}`))); got != "[options.x]" {
		t.Errorf("got %s", got)
	}

	many := ""
	for i := range 21 {
		many += fmt.Sprintf(`,"k%02d":1`, i)
	}
	if got := unknownKeys([]byte("{" + many[1:] + "}")); len(got) != 20 || got[0] != "k00" || got[19] != "k19" {
		t.Errorf("got %q, want the first 20", got)
	}
}

// TestUnknownKeysAreBounded: made-up keys do not fill the log.
func TestUnknownKeysAreBounded(t *testing.T) {
	var keys strings.Builder
	for i := range 500 {
		fmt.Fprintf(&keys, `"k%d":1,`, i)
	}
	if got := unknownKeys([]byte("{" + keys.String() + `"x":1}`)); len(got) != maxUnknownKeys {
		t.Errorf("got %d keys of one message, want %d", len(got), maxUnknownKeys)
	}
}

func FuzzMsysAPI(f *testing.F) {
	for _, s := range []string{`{}`, `{"campaign_id":"a","cc":["a@b"],"options":{"ip_pool":"x"}}`, "{\r\n \"tags\":[\"a\"]}", `{"archive":[{"email":"x@y"}]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMsysAPI([]byte("X-MSYS-API: " + s))
		if err != nil {
			if r := reply.For(err); r.Code != 550 || strings.ContainsAny(r.Text, "\r\n") {
				t.Fatalf("%v", r)
			}
			return
		}
		for _, a := range slices.Concat(m.CC, m.BCC, m.Archive) {
			if back, err := envelope.Parse(a.String()); err != nil || back != a {
				t.Fatalf("%q reads back as %v, %v", a, back, err)
			}
		}
	})
}
