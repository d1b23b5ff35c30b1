package smtpd

import (
	"strings"
	"testing"

	"postern/relay/reply"
)

func TestCheckMessage(t *testing.T) {
	t.Parallel()
	const from = "From: a@example.com\r\n"
	hops := func(n int) string { return strings.Repeat("Received: from a by b\r\n", n) }
	for _, c := range []struct{ name, msg, want string }{
		{"plain", from + "\r\nx\r\n", ""},
		{"a hundred hops", hops(100) + from + "\r\nx\r\n", ""},
		{"a loop", hops(101) + from + "\r\nx\r\n", "554 5.4.6"},
		{"no From", "Subject: x\r\n\r\nx\r\n", "550 5.6.0"},
		{"long line", from + "X: " + strings.Repeat("x", 996) + "\r\n\r\n", "550 5.6.0"},
		{"longest line", from + "X: " + strings.Repeat("x", 995) + "\r\n\r\n", ""},
		{"long line's field is named", from + "X-Long: " + strings.Repeat("x", 1000) + "\r\n\r\n", "550 5.6.0 Header field X-Long has a line of more than 998 bytes"},
		{"long folded line", from + "X: a\r\n " + strings.Repeat("x", 998) + "\r\n b\r\n\r\n", "550 5.6.0 Header field X has a line"},
		{"long first line", from + "X: " + strings.Repeat("x", 996) + "\r\n b\r\n\r\n", "550 5.6.0 Header field X has a line"},
		{"longest lines", from + "X: a\r\n " + strings.Repeat("x", 997) + "\r\n " + strings.Repeat("x", 997) + "\r\n\r\n", ""},
		{"a field that does not leave", from + "X-MSYS-API: " + strings.Repeat("x", 5000) + "\r\nX: y\r\n\r\n", ""},
		{"a long line behind it", from + "X-MSYS-API: {}\r\nX: " + strings.Repeat("x", 996) + "\r\n\r\n", "550 5.6.0"},
		{"two Froms", from + from + "\r\n", "550 5.6.0 Message has more than one From header field"},
		{"no field", from + "A: b\r\nno field\r\n\r\n", "550 5.6.0 Header line 3 is no header field"},
		{"no field at the beginning", "no field\r\n" + from + "\r\n", "550 5.6.0 Header line 1 is no header field"},
		{"a loop's words", hops(101) + from + "\r\n", "554 5.4.6 Too many Received header fields: mail loop"},
		{"nothing", "", "550 5.6.0 Message has no From header field"},
		{"largest header", from + largeHeader(1<<20-len(from)) + "\r\n", ""},
		{"larger header", from + largeHeader(1<<20-len(from)+1) + "\r\n", "550 5.6.0 Header section is larger than 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := checkMessage([]byte(c.msg))
			got := ""
			if err != nil {
				got = reply.For(err).String()
			}
			if !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// largeHeader is fields of n bytes.
func largeHeader(n int) string {
	field := "X: " + strings.Repeat("x", 95) + "\r\n" // 100 bytes
	rest := n % 100
	return strings.Repeat(field, n/100-1) + "X: " + strings.Repeat("x", 95+rest) + "\r\n"
}

func TestLongestLine(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int{
		"":                  0,
		"a":                 1,
		"a\r\n":             1,
		"abc\r\nd\r\n":      3,
		"a\r\nbcd\r\ne\r\n": 3,
		"a\r\nbcde":         4,
	} {
		if got := longestLine([]byte(raw)); got != want {
			t.Errorf("%q: %d, want %d", raw, got, want)
		}
	}
}
