package relay

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJobID(t *testing.T) {
	var latin strings.Builder
	for r := rune(32); r <= 255; r++ {
		latin.WriteRune(r)
	}
	vector := "_!_#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^__abcdefghijklmnopqrstuvwxyz{|}~" + strings.Repeat("_", 129)
	for _, c := range []struct{ name, in, want string }{
		{"Latin-1", latin.String(), vector},
		{"bytes that are no UTF-8", "a\xff\xfeb", "a__b"},
		{"one underscore a code point", "é€😀", "___"},
		{"cut at 512", strings.Repeat("x", 600), strings.Repeat("x", 512)},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := JobID(c.in); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestJobFromHeader(t *testing.T) {
	for _, c := range []struct{ name, in, prefix, want string }{
		{"white space around goes", " spring sale\t", "", "spring_sale"},
		{"encoded word", "=?utf-8?q?fr=C3=BChling?=", "", "fr_hling"},
		{"prefix", "a", "eu/", "eu/a"},
		{"empty stays empty", "  ", "eu/", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := jobFromHeader(c.in, c.prefix); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// FuzzJobID: a job id is safe as it is, stays what it is, and has a byte for each
// character of the name.
func FuzzJobID(f *testing.F) {
	for _, s := range []string{"", "spring sale", "fr\u00fchling", "a\xffb", "\"`", strings.Repeat("x", 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		id := JobID(name)
		if want := min(utf8.RuneCountInString(name), 512); len(id) != want {
			t.Fatalf("%q: %d bytes, want %d", name, len(id), want)
		}
		if again := JobID(id); again != id {
			t.Fatalf("%q becomes %q, and that %q", name, id, again)
		}
		if strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '`' }) {
			t.Fatalf("%q becomes %q", name, id)
		}
	})
}

// TestJobIDBytes: each byte of ASCII, and the cut.
func TestJobIDBytes(t *testing.T) {
	for c := range 0x80 {
		want := string(rune(c))
		if c <= ' ' || c > '~' || c == '"' || c == '`' {
			want = "_"
		}
		if got := JobID("a" + string(rune(c))); got != "a"+want {
			t.Errorf("JobID of %q: %q, want %q", rune(c), got, "a"+want)
		}
	}
	for n, want := range map[int]int{511: 511, 512: 512, 513: 512} {
		if got := JobID(strings.Repeat("ü", n)); len(got) != want {
			t.Errorf("%d characters: %d bytes, want %d", n, len(got), want)
		}
	}
	for in, want := range map[string]string{
		"\r\n a \t": "p/a", " \t\r\n": "", "=?none?q?a?=": "p/=?none?q?a?=", "=?utf-8?q?_a_?=": "p/a",
	} {
		if got := jobFromHeader(in, "p/"); got != want {
			t.Errorf("jobFromHeader(%q) = %q, want %q", in, got, want)
		}
	}
}
