package wire

import (
	"errors"
	"fmt"
	"testing"
)

func TestUpper(t *testing.T) {
	t.Parallel()
	in := "@AZ[`az{\u00c4\u00e4\u017f\u212a"
	if got, want := upper(in), "@AZ[`AZ{\u00c4\u00e4\u017f\u212a"; got != want {
		t.Errorf("upper %q, want %q", got, want)
	}
}

func TestParseChunk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arg  string
		want string
	}{
		{"0", "0 false"},
		{"7", "7 false"},
		{"0 LAST", "0 true"},
		{"1 2", "error"},
		{"LAST", "error"},
		{"LAST 1", "error"},
		{"4294967295", "error"},
		{"4294967296", "error"},
		{"2147483647 LAST", "2147483647 true"},
		{"12 LAST", "12 true"},
		{"12    last", "12 true"},
		{"2147483647", "2147483647 false"},
		{"2147483648", "error"},
		{"", "error"},
		{"-1", "error"},
		{"+1", "error"},
		{"0x10", "error"},
		{"1_0", "error"},
		{"1 LAST LAST", "error"},
		{"1 FIRST", "error"},
	} {
		t.Run(c.arg, func(t *testing.T) {
			got := "error"
			if ch, err := parseChunk(c.arg); err == nil {
				got = fmt.Sprint(ch.size, ch.last)
			}
			if got != c.want {
				t.Errorf("parseChunk(%q) = %s, want %s", c.arg, got, c.want)
			}
			if _, err := parseChunk(c.arg); err != nil && !errors.Is(err, errBadChunk) {
				t.Errorf("parseChunk(%q): %v, want %v", c.arg, err, errBadChunk)
			}
		})
	}
}

// TestParseCommand: one reading of a line, which the library gets written anew.
func TestParseCommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, verb, arg, anew string }{
		{"NOOP\r\n", "NOOP", "", "NOOP\r\n"},
		{"noop\n", "NOOP", "", "NOOP\r\n"},
		{"NOOP", "NOOP", "", "NOOP\r\n"},
		{"mail from:<A@b.example>\r\n", "MAIL", "from:<A@b.example>", "MAIL from:<A@b.example>\r\n"},
		{"MAIL \t from:<a@b>  \t\r\n", "MAIL", "from:<a@b>", "MAIL from:<a@b>\r\n"},
		{"BDAT\t5 LAST\r\n", "BDAT", "5 LAST", "BDAT 5 LAST\r\n"},
		{" BDAT 5\r\n", "", "BDAT 5", " BDAT 5\r\n"},
		{"NOOP\r\r\n", "NOOP\r", "", "NOOP\r\r\n"},
		{"\r\n", "", "", "\r\n"},
		{"r\u017fet\r\n", "R\u017fET", "", "R\u017fET\r\n"},
	} {
		got := parseCommand([]byte(c.line))
		if got.verb != c.verb || got.arg != c.arg || string(got.line()) != c.anew {
			t.Errorf("%q: %q, %q, anew %q; want %q, %q, %q", c.line, got.verb, got.arg, got.line(), c.verb, c.arg, c.anew)
		}
	}
}
