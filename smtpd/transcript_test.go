package smtpd

import (
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"testing"
)

// dialogueOf returns the lines of a log's transcripts, each with whether its
// session is the first one's.
func dialogueOf(t *testing.T, log string) []string {
	t.Helper()
	var lines []string
	session := ""
	for raw := range strings.Lines(log) {
		var line struct{ Msg, Session, Line string }
		if err := json.Unmarshal([]byte(raw), &line); err != nil {
			t.Fatal(err)
		}
		if line.Msg != "dialogue" {
			continue
		}
		if session == "" {
			session = line.Session
		}
		if line.Session == "" || line.Session != session {
			t.Errorf("session %q, want %q as before", line.Session, session)
		}
		lines = append(lines, line.Line)
	}
	return lines
}

// debugServer serves in plain text, and logs at a level.
func debugServer(t *testing.T, level slog.Level) (*player, *running, *lockedBuffer) {
	t.Helper()
	out := &lockedBuffer{}
	r := startServer(t, func(c *setup) {
		c.RequireTLS = false
		c.Log = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}))
	}, false)
	p := &player{t: t, at: "transcript", serv: r}
	p.dial()
	return p, r, out
}

func TestTranscriptHasTheDialogueWithoutSecrets(t *testing.T) {
	t.Parallel()
	p, r, out := debugServer(t, slog.LevelDebug)
	p.reply()
	for _, line := range []string{
		"EHLO app.example",
		"AUTH CRAM-MD5", // refused
		"c2VjcmV0",      // the password all the same
		"AUTH c2VjcmV0", // no mechanism
		"AUTH LOGIN",    // name and password follow
		"YWxpY2U=",      // alice
		"c2VjcmV0",      // secret
		"MAIL FROM:<a@example.com>",
		"RCPT TO:<b@example.net>",
		"DATA",
	} {
		p.send(line + "\r\n")
		p.reply()
	}
	p.send("From: a@example.com\r\n\r\nconfidential\r\n.\r\n")
	p.reply()
	p.send("NOOP c2VjcmV0\r\n")
	p.reply()
	p.send("QUIT\r\n")
	p.reply()
	p.raw.Close()
	r.stop()

	text := strings.Join(dialogueOf(t, out.String()), "\n")
	for _, want := range []string{
		"^S: 220 ",
		"C: EHLO app.example\nS: 250-",
		"C: AUTH CRAM-MD5\nS: 504 5.5.4 ",
		`C: \(unknown command of 10 bytes\)` + "\nS: 500 ",
		`C: AUTH \*\*\*` + "\nS: 50",
		"C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\n" + `C: \*\*\*` + "\nS: 334 UGFzc3dvcmQ6\n" + `C: \*\*\*` + "\nS: 235 ",
		"C: MAIL FROM:<a@example.com>\nS: 250 ",
		"C: RCPT TO:<b@example.net>\nS: 250 ",
		"C: DATA\nS: 354 .*\n" + `C: \(message of 37 bytes\)` + "\nS: 250 2.0.0 taken by the test\n",
		`C: NOOP \*\*\*` + "\nS: 250 ",
		"C: QUIT\nS: 221 ",
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, secret := range []string{"secret", "c2VjcmV0", "YWxpY2U", "confidential"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log holds %s:\n%s", secret, out.String())
		}
	}
}

func TestNoTranscriptAboveDebug(t *testing.T) {
	t.Parallel()
	p, r, out := debugServer(t, slog.LevelInfo)
	p.reply()
	p.send("QUIT\r\n")
	p.reply()
	p.raw.Close()
	r.stop()
	if got := dialogueOf(t, out.String()); len(got) != 0 {
		t.Errorf("got %v, want nothing", got)
	}
}

// TestRefusedAddressesAreNamed checks the reply and the log.
func TestRefusedAddressesAreNamed(t *testing.T) {
	t.Parallel()
	out := &lockedBuffer{}
	r := startServer(t, func(c *setup) { c.Log = slog.New(slog.NewJSONHandler(out, nil)) }, false)
	p := &player{t: t, at: "refusals", serv: r}
	p.dial()
	p.check("login")
	for _, c := range []struct{ line, reply, key, address string }{
		{"MAIL FROM:<a@b..example>", "553 5.1.7 Bad sender address: <a@b..example>", "from", "a@b..example"},
		{"MAIL FROM:<\xc3\xbc@example.com>", "553 5.6.7 International sender address without SMTPUTF8: <??@example.com>", "from", "??@example.com"},
		{"MAIL FROM:<a@example.com>", "250", "", ""},
		{"RCPT TO:<b@c..example>", "553 5.1.3 Bad recipient address: <b@c..example>", "recipient", "b@c..example"},
		{"RCPT TO:<\xc3\xbc@example.com>", "553 5.6.7 International recipient address without SMTPUTF8: <??@example.com>", "recipient", "??@example.com"},
	} {
		p.send(c.line + "\r\n")
		got := p.reply()
		if !strings.HasPrefix(got, c.reply) {
			t.Errorf("%s: got %s, want %s", c.line, got, c.reply)
		}
		if c.key == "" {
			continue
		}

		found := false
		for raw := range strings.Lines(out.String()) {
			var line map[string]any
			if err := json.Unmarshal([]byte(raw), &line); err != nil {
				t.Fatal(err)
			}
			found = found || line["msg"] == "address refused" && line[c.key] == c.address &&
				line["reply"] == c.reply && line["user"] == "alice" && line["session"] != ""
		}
		if !found {
			t.Errorf("%s: no line with %s=%s in\n%s", c.line, c.key, c.address, out.String())
		}
	}
	p.raw.Close()
	r.stop()
}

// TestTranscriptOfChunks has what is said between them, and not what is in
// them; long lines are cut.
func TestTranscriptOfChunks(t *testing.T) {
	t.Parallel()
	out := &lockedBuffer{}
	inBubble(t, func(c *setup) {
		bySource(c)
		c.Log = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}, false, func(b *bubble) {
		client := b.inMail()
		client.send("BDAT 21\r\nFrom: a@example.com\r\nNOOP\r\nBDAT 2 LAST\r\n\r\n")
		client.send("RCPT TO:<" + strings.Repeat("x", 600) + "\r\n")
		client.c.Close()
	})
	lines := dialogueOf(t, out.String())
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"S: 220 mail.example.com ESMTP Service Ready\nC: EHLO client.example\nS: 250-",
		"\nC: BDAT 21\nC: NOOP\nC: BDAT 2 LAST\nC: (message of 23 bytes)\n",
		"\nS: 250 2.0.0 Continue\nS: 250 2.0.0 Ok\nS: 250 2.0.0 taken by the test\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, line := range lines {
		if len(line) > 500+3 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}
