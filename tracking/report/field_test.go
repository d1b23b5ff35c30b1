package report

import (
	"strings"
	"testing"
)

func TestStructured(t *testing.T) {
	for in, want := range map[string]string{
		"abuse":                        "abuse",
		"abuse (spam)":                 "abuse",
		"(so (it) was) abuse":          "abuse",
		`abuse (a \) b) x`:             "abuse x",
		`"a (b)"@example.com`:          `"a (b)"@example.com`,
		"abuse (":                      "abuse (",
		"a\r\n b\t c":                  "a b c",
		"a)":                           "a)",
		"":                             "",
		"rfc822; (Bob) bob@b.example ": "rfc822; bob@b.example",
	} {
		t.Run(in, func(t *testing.T) {
			if got := structured(in); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestKeyword(t *testing.T) {
	for in, want := range map[string]string{
		"Abuse":                    "abuse",
		"abuse (spam)":             "abuse",
		"auto-replied; owner=x":    "auto-replied",
		"(x) failed (bad mailbox)": "failed",
		"failed.":                  "failed",
		"":                         "",
		"()":                       "",
	} {
		t.Run(in, func(t *testing.T) {
			if got := keyword(in); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestAddressOf: a recipient field has the whole address or none, for a part of
// it is somebody else's.
func TestAddressOf(t *testing.T) {
	for in, want := range map[string]string{
		"rfc822; bob@b.example":                       "bob@b.example",
		"RFC822;<bob@b.example>":                      "bob@b.example",
		"rfc822 (x) ; bob@b.example (Bob)":            "bob@b.example",
		"rfc822; bob@b.example (see a@b.example)":     "bob@b.example",
		"bob@b.example":                               "bob@b.example",
		`utf-8; b\x{F6}b@example.com`:                 "böb@example.com",
		`UTF-8; \x{4E2D}\x{6587}@example.com`:         "中文@example.com",
		`utf-8; b\x{F6}b@b\x{FC}cher.example`:         "böb@bücher.example",
		"utf-8; böb@bücher.example":                   "böb@bücher.example",
		`utf-8; b\x{D800}b@example.com`:               "",
		`utf-8; b\x{40}b@example.com`:                 "",
		`utf-8; b\x{zz}b@example.com`:                 "",
		`utf-8; b\x{F6b@example.com`:                  "",
		"rfc822; o'brien@example.com":                 "o'brien@example.com",
		`rfc822; "a b"@example.com`:                   `"a b"@example.com`,
		"rfc822; a/b=c{d}@example.com":                "a/b=c{d}@example.com",
		"x400; /RFC-822=bob(a)b.example/ADMD= /C=WW/": "bob@b.example",
		"x400; /G=Bob/":                               "/G=Bob/",
		"":                                            "",
	} {
		t.Run(in, func(t *testing.T) {
			if got := addressOf(in); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestReportFields reads structured fields of whole reports with comments, folds
// and letters beyond ASCII.
func TestReportFields(t *testing.T) {
	dsn := Parse(crlf(`
From: MAILER-DAEMON@a.example
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b

sorry
--b
Content-Type: message/global-delivery-status

Reporting-MTA: dns; a.example (x)

Original-Recipient: utf-8;
 b\x{F6}b@example.com (Bob)
Final-Recipient: utf-8; b\x{F6}b@mailbox.example.com
Action: failed (for good)
Status: 5.1.1 (no such user)
--b--
`))
	if len(dsn.Recipients) != 1 || dsn.Recipients[0].Address() != "böb@example.com" || dsn.Recipients[0].Kind != Bounce || dsn.Recipients[0].Status != "5.1.1" {
		t.Errorf("got %s %+v, want a bounce of böb@example.com", dsn.Kind, dsn.Recipients)
	}

	arf := Parse(crlf(`
From: fbl@provider.example
Content-Type: multipart/report; report-type=feedback-report; boundary=b

--b

A complaint.
--b
Content-Type: message/feedback-report

Feedback-Type: (it is) Abuse
 (spam)
User-Agent: X/1 (y)
Source-IP: 192.0.2.1 (ours)
Original-Rcpt-To:
 <bob@b.example> (Bob)
--b
Content-Type: message/rfc822

To: other@b.example

hi
--b--
`))
	if arf.FeedbackType != "abuse" || arf.SourceIP != "192.0.2.1" || len(arf.Recipients) != 1 || arf.Recipients[0].Final != "bob@b.example" {
		t.Errorf("got %+v, want abuse of bob@b.example from 192.0.2.1", arf)
	}
	if e := arf.Event(Found{ID: someID}, noon); e == nil || e.FeedbackType != "abuse" {
		t.Errorf("got the event %+v, want a complaint", e)
	}
}

// TestAddressesInText: an address in running text is found as a whole.
func TestAddressesInText(t *testing.T) {
	for text, want := range map[string]string{
		"<o'brien@example.com>: no":         "o'brien@example.com",
		"'bob@example.com'":                 "bob@example.com",
		"宛先bob@example.jpは存在しません":           "bob@example.jp",
		"böb@bücher.example wrote":          "böb@bücher.example",
		strings.Repeat("a", 300) + " a@b.c": "a@b.c",
	} {
		t.Run(want, func(t *testing.T) {
			if got := addressIn.FindString(text); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestPartsOfAField: types, comments and names.
func TestPartsOfAField(t *testing.T) {
	for v, want := range map[string][4]string{ // type, rest, comment, keyword
		"rfc822; bob@b.example": {"rfc822", "bob@b.example", "", "rfc822"},
		" SMTP (x) ; 550 no ":   {"smtp", "550 no", "x", "smtp"},
		" bob@b.example ":       {"", "bob@b.example", "", "bob@b.example"},
		"bob@b.example; x":      {"", "bob@b.example; x", "", "bob@b.example"},
		"two words; x":          {"", "two words; x", "", "two"},
		"mx.example; x":         {"", "mx.example; x", "", "mx.example"},
		"<a; b":                 {"", "<a; b", "", "<a"},
		"; x":                   {"", "; x", "", ""},
		"5.1.1 (a (b) c) d":     {"", "5.1.1 (a (b) c) d", "a (b) c", "5.1.1"},
		"5.1.1 ( never closed":  {"", "5.1.1 ( never closed", "never closed", "5.1.1"},
		`"Failed", x`:           {"", `"Failed", x`, "", "failed"},
	} {
		t.Run(v, func(t *testing.T) {
			kind, rest := cutType(v)
			if got := [4]string{kind, rest, comment(v), keyword(v)}; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := typed(v); got != want[1] {
				t.Errorf("typed: got %q, want %q", got, want[1])
			}
		})
	}
	if got := mtaName("dns; mx.example (x)"); got != "mx.example" {
		t.Errorf("got the name %q, want mx.example", got)
	}
}

// TestIsAddress: one address and nothing else.
func TestIsAddress(t *testing.T) {
	for v, want := range map[string]bool{
		"a@b":                             true,
		`"a b"@c.example`:                 true,
		"a@[192.0.2.1]":                   true,
		"":                                false,
		"a":                               false,
		"a@":                              false,
		"@b":                              false,
		"a@b@c":                           false,
		"a@b> <c@d":                       false,
		"A <a@b>":                         false,
		"a b@c":                           false,
		strings.Repeat("l", 508) + "@b.x": true,
		strings.Repeat("l", 509) + "@b.x": false,
	} {
		if got := isAddress(v); got != want {
			t.Errorf("%.40q is an address: got %v, want %v", v, got, want)
		}
	}
}

// TestAddressesOfX400 are inside of it.
func TestAddressesOfX400(t *testing.T) {
	for v, want := range map[string]string{
		"/RFC-822=bob(a)b.example/": "bob@b.example", "/rfc822=bob(a)b.example": "bob@b.example", "x": "x",
		"/C=WW/RFC-822=bob(A)b.example/X=y/": "bob@b.example", "/RFC-822=bob": "/RFC-822=bob",
	} {
		if got := cutX400(v); got != want {
			t.Errorf("%s: got %q, want %q", v, got, want)
		}
	}
}
