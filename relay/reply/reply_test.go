package reply

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestReplies: what a client is told of an error, to the letter.
func TestReplies(t *testing.T) {
	cause := errors.New("disk on fire")

	for _, c := range []struct {
		name  string
		err   error
		want  string // the reply
		error string // in the log
	}{
		{"not classified", cause, "451 4.3.0 Internal error, try again later", "disk on fire"},
		{"class not given", &Fault{Err: cause}, "451 4.3.0 Temporary error, try again later", "disk on fire"},
		{"temporary", &Fault{Class: Temporary, Err: cause}, "451 4.3.0 Temporary error, try again later", "disk on fire"},
		{"permanent", &Fault{Class: Permanent, Err: cause}, "550 5.6.0 Message refused", "disk on fire"},
		{"cut", &Fault{Class: Cut, Err: cause}, "451 4.4.2 Message cut off", "disk on fire"},
		{"overloaded", &Fault{Class: Overloaded, Err: cause}, "452 4.3.1 Insufficient system storage, try again later", "disk on fire"},
		{"its own reply", Refuse(553, EnhancedCode{5, 1, 3}, "no"), "553 5.1.3 no", "553 5.1.3 no"},
		{"its own reply and a cause", Defer(421, EnhancedCode{4, 4, 1}, "later", cause), "421 4.4.1 later", "421 4.4.1 later (disk on fire)"},
		{"wrapped", fmt.Errorf("x: %w", Refuse(500, EnhancedCode{}, "no")), "500 no", "x: 500 no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := For(c.err).String(); got != c.want {
				t.Errorf("reply: got %q, want %q", got, c.want)
			}
			if got := c.err.Error(); got != c.error {
				t.Errorf("error: got %q, want %q", got, c.error)
			}
		})
	}

	if f := Refuse(550, EnhancedCode{5, 0, 0}, "no"); f.Class != Permanent || f.Err != nil {
		t.Errorf("Refuse: %+v, want a permanent fault", f)
	}
	f := Defer(450, EnhancedCode{4, 0, 0}, "later", cause)
	if f.Class != Temporary || !errors.Is(f, cause) {
		t.Errorf("Defer: %+v, want a temporary fault with its cause", f)
	}
}

// TestClasses: the zero class is the one that nobody has given.
func TestClasses(t *testing.T) {
	seen := map[Class]bool{}
	for _, c := range []Class{Unclassified, Temporary, Permanent, Cut, Overloaded} {
		if seen[c] {
			t.Errorf("class %d is there twice", c)
		}
		seen[c] = true
	}
	if Unclassified != (&Fault{}).Class {
		t.Errorf("zero class is %d, want Unclassified", (&Fault{}).Class)
	}
}

// TestCleanTextBounds: ten lines of 500 bytes are passed on, no more, and of each
// byte only printable ASCII.
func TestCleanTextBounds(t *testing.T) {
	lines := func(n, length int) string {
		return strings.TrimSuffix(strings.Repeat(strings.Repeat("x", length)+"\n", n), "\n")
	}

	for _, c := range []struct{ name, in, want string }{
		{"ten lines", lines(10, 3), lines(10, 3)},
		{"eleven lines", lines(11, 3), lines(10, 3)},
		{"line of 500 bytes", lines(1, 500), lines(1, 500)},
		{"line of 501 bytes", lines(1, 501), lines(1, 500)},
		{"second line of 501 bytes", "a\n" + lines(1, 501), "a\n" + lines(1, 500)},
		{"CR LF", "a\r\nb", "a\nb"},
		{"bare CR", "a\rb", "a?b"},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := CleanText(c.in); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	for c := range 0x100 {
		want := "?"
		if c >= ' ' && c <= '~' {
			want = string(rune(c))
		}
		if got := CleanLine(string([]byte{byte(c), 'x'}), 1); got != want {
			t.Errorf("CleanLine of %#x: got %q, want %q", c, got, want)
		}
	}
	if got := CleanLine("abc", 5); got != "abc" {
		t.Errorf("got %q, want what is there", got)
	}
}

func TestCleanText(t *testing.T) {
	long := strings.Repeat("x\n", 50000)
	if got := CleanText(long); strings.Count(got, "\n") > maxLines {
		t.Errorf("%d lines left", strings.Count(got, "\n"))
	}
	if got := CleanText("a\rb\x00\x1b[2J ü"); got != "a?b??[2J ??" {
		t.Errorf("got %q", got)
	}
}

func TestFor(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code int
	}{
		{"unclassified is never permanent", errors.New("x"), 451},
		{"overloaded", &Fault{Class: Overloaded}, 452},
		{"permanent", &Fault{Class: Permanent}, 550},
		{"its own words", Refuse(553, EnhancedCode{5, 1, 3}, "bad address"), 553},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := For(c.err); got.Code != c.code {
				t.Errorf("got %v, want %d", got, c.code)
			}
		})
	}
}
