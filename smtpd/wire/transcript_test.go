package wire

import (
	"strings"
	"testing"
)

func TestTranscriptShowsOfACommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n": "AUTH PLAIN ***",
		"auth plain AGFsaWNl\n":               "AUTH plain ***",
		"AUTH\tPLAIN\tAGFsaWNl\r\n":           "AUTH ***",
		" AUTH PLAIN AGFsaWNl\r\n":            "(unknown command of 22 bytes)",
		"AGFsaWNlAHNlY3JldA==\r\n":            "(unknown command of 22 bytes)",
		"mail from:<a@example.com> SIZE=1\n":  "MAIL from:<a@example.com> SIZE=1",
		"DATA\r\n":                            "DATA",
		"\r\n":                                "(unknown command of 2 bytes)",
	} {
		if got := shownCommand([]byte(line)); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// TestTranscriptShowsMechanismsAndVerbs checks what is shown of commands.
func TestTranscriptShowsMechanismsAndVerbs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "NTLM", "OAUTHBEARER", "SCRAM-SHA-1", "SCRAM-SHA-256", "XOAUTH2",
	} {
		if got, want := shownCommand([]byte("auth "+name+"\r\n")), "AUTH "+name; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := shownCommand([]byte("AUTH "+name+" c2VjcmV0\r\n")), "AUTH "+name+" ***"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, verb := range []string{"DATA", "EXPN", "HELP", "NOOP", "QUIT", "RSET", "STARTTLS", "VRFY"} {
		if got := shownCommand([]byte(verb + "\r\n")); got != verb {
			t.Errorf("got %q, want %q", got, verb)
		}
		if got, want := shownCommand([]byte(verb+" c2VjcmV0\r\n")), verb+" ***"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, verb := range []string{"EHLO", "HELO", "MAIL", "RCPT", "BDAT"} {
		if got, want := shownCommand([]byte(verb+" x y\r\n")), verb+" x y"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := shownCommand([]byte("AUTH\r\n")); got != "AUTH ***" {
		t.Errorf("got %q, want no mechanism", got)
	}
}

func TestTranscriptWithoutLog(t *testing.T) {
	t.Parallel()
	if silent := (transcript{}); silent.on() {
		t.Error("a transcript without a log is on")
	}
}

// TestSessionIDsDiffer checks their length and alphabet, too.
func TestSessionIDsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		id := newSessionID()
		if len(id) != 16 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") != "" || seen[id] {
			t.Fatalf("%q is no new identifier", id)
		}
		seen[id] = true
	}
}
