package message

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		name, in     string
		header, body string
		separated    bool
	}{
		{"header and body", "A: b\r\nC: d\r\n\r\nbody\r\n", "A: b\r\nC: d\r\n", "body\r\n", true},
		{"second empty line", "A: b\r\n\r\nx\r\n\r\ny", "A: b\r\n", "x\r\n\r\ny", true},
		{"empty header", "\r\nbody", "", "body", true},
		{"empty line alone", "\r\n", "", "", true},
		{"no body", "A: b\r\n\r\n", "A: b\r\n", "", true},
		{"no empty line", "A: b\r\n", "A: b\r\n", "", false},
		{"no line end", "A: b", "A: b", "", false},
		{"nothing", "", "", "", false},
		{"empty line of another kind", "A: b\n\nbody", "A: b\n\nbody", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			header, body, separated := Split([]byte(c.in))
			if string(header) != c.header || string(body) != c.body || separated != c.separated {
				t.Errorf("got %q, %q, %v, want %q, %q, %v", header, body, separated, c.header, c.body, c.separated)
			}
			if !separated && body != nil {
				t.Errorf("body %q of a message without one, want nil", body)
			}
		})
	}
}

func TestFields(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string // name, raw bytes and value of each
	}{
		{"one", "A: b\r\n", []string{"A", "A: b\r\n", "b"}},
		{"two", "A: b\r\nC:d\r\n", []string{"A", "A: b\r\n", "b", "C", "C:d\r\n", "d"}},
		{"no line end", "A: b", []string{"A", "A: b", "b"}},
		{"folded by a space", "A: b\r\n c\r\nD: e\r\n", []string{"A", "A: b\r\n c\r\n", "b c", "D", "D: e\r\n", "e"}},
		{"folded by a tab", "A:\r\n\tb\r\n\t c\r\n", []string{"A", "A:\r\n\tb\r\n\t c\r\n", "b\t c"}},
		{"folded, no line end", "A: b\r\n ", []string{"A", "A: b\r\n ", "b"}},
		{"white space before the colon", "A \t: b\r\n", []string{"A", "A \t: b\r\n", "b"}},
		{"white space around the value", "A: \t b \t\r\n", []string{"A", "A: \t b \t\r\n", "b"}},
		{"colon in the value", "A: b: c\r\n", []string{"A", "A: b: c\r\n", "b: c"}},
		{"no value", "A:\r\n", []string{"A", "A:\r\n", ""}},
		{"no colon", "A b\r\n", []string{"", "A b\r\n", ""}},
		{"no name", ": b\r\n", []string{"", ": b\r\n", "b"}},
		{"only white space for a name", " : b\r\n", []string{"", " : b\r\n", "b"}},
		{"space in the name", "A b: c\r\n", []string{"", "A b: c\r\n", "c"}},
		{"control in the name", "A\x1f: c\r\n", []string{"", "A\x1f: c\r\n", "c"}},
		{"DEL in the name", "A\x7f: c\r\n", []string{"", "A\x7f: c\r\n", "c"}},
		{"8-bit name", "A\x80: c\r\n", []string{"", "A\x80: c\r\n", "c"}},
		{"longest ASCII in the name", "!~: c\r\n", []string{"!~", "!~: c\r\n", "c"}},
		{"continuation line first", " x\r\nA: b\r\n", []string{"", " x\r\n", "", "A", "A: b\r\n", "b"}},
		{"bare LF", "A: b\nC: d\n e", []string{"A", "A: b\n", "b", "C", "C: d\n e", "d e"}},
		{"empty line", "\r\nA: b\r\n", []string{"", "\r\n", "", "A", "A: b\r\n", "b"}},
		{"nothing", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range Fields([]byte(c.in)) {
				got = append(got, f.Name, string(f.Raw), f.Value())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestFieldsDoNotOverlap: what is appended to one field's bytes leaves the next
// alone.
func TestFieldsDoNotOverlap(t *testing.T) {
	fields := Fields([]byte("A: b\r\nC: d\r\n"))
	_ = append(fields[0].Raw, "XXXX"...)
	if got := string(fields[1].Raw); got != "C: d\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestFirst(t *testing.T) {
	fields := Fields([]byte("Received: 1\r\nX: 2\r\nx: 3\r\n"))

	for name, want := range map[string]string{"X": "2", "x": "2", "RECEIVED": "1", "Y": "", "Receive": ""} {
		f, ok := First(fields, name)
		if f.Value() != want || ok != (want != "") {
			t.Errorf("First(%s) = %q, %v, want %q", name, f.Value(), ok, want)
		}
	}
}

// FuzzFields: the fields are the header, each begins where a line does that is
// not a continuation, and their values have no line end.
func FuzzFields(f *testing.F) {
	for _, s := range []string{"A: b\r\nC: d\r\n", "A:\r\n b\r\n\r\n", " x\r\n", "A", "A\t:\n\tb\r", "\r\n\r\n", "A:\r\n \r\n\r\nb"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		header, body, separated := Split(msg)
		whole := bytes.Clone(header)
		if separated {
			whole = append(whole, "\r\n"...)
		}
		if got := append(whole, body...); !bytes.Equal(got, msg) {
			t.Fatalf("%q splits into %q, %q", msg, header, body)
		}

		var all []byte
		for i, field := range Fields(header) {
			all = append(all, field.Raw...)
			if len(field.Raw) == 0 || i > 0 && strings.IndexByte(" \t", field.Raw[0]) >= 0 {
				t.Fatalf("%q: field %d is %q", header, i, field.Raw)
			}
			if strings.ContainsAny(field.Value(), "\r\n") || strings.ContainsAny(field.Name, ": \t\r\n") {
				t.Fatalf("%q: name %q, value %q", field.Raw, field.Name, field.Value())
			}
			for rest := field.Raw; ; {
				_, next, found := bytes.Cut(rest, []byte("\n"))
				if !found || len(next) == 0 {
					break
				}
				if next[0] != ' ' && next[0] != '\t' {
					t.Fatalf("%q: field %d is two: %q", header, i, field.Raw)
				}
				rest = next
			}
		}
		if !bytes.Equal(all, header) {
			t.Fatalf("%q has fields %q", header, all)
		}
	})
}
