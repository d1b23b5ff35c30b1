package integration

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"postern/cmd/postern/demo/sink"
)

// addUser adds a user to a gateway's users file, with the lines given.
func addUser(t *testing.T, g *gateway, name, password, lines string) {
	t.Helper()
	run(t, password+"\n", postern, "passwd", "--config", g.config, name)

	file := filepath.Join(g.dir, "users.toml")
	entry := regexp.MustCompile(`(?m)^name += "` + regexp.QuoteMeta(name) + `"\n`)
	text := readFile(t, file)
	at := entry.FindStringIndex(text)
	if at == nil {
		t.Fatalf("no user %s in\n%s", name, text)
	}
	writeFile(t, file, text[:at[1]]+lines+text[at[1]:])
}

// TestSendersAndKeys: a user that is held to a domain sends as that domain alone,
// and nobody gets the signature of a domain that another user is held to; the
// users file is followed as it changes.
func TestSendersAndKeys(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	run(t, "", postern, "dkim", "keygen", "--domain", "allowed.example", "--selector", "s2", "--out", filepath.Join(g.dir, "allowed.pem"))
	writeFile(t, g.config, readFile(t, g.config)+"[[dkim.key]]\ndomain = \"allowed.example\"\nselector = \"s2\"\nkey_file = \"allowed.pem\"\n")
	addUser(t, g, "tester", "other word", "from_domains = [\"allowed.example\"]\n")

	out := run(t, "", postern, "check", "--config", g.config)
	if !strings.Contains(out, "the key s2 signs nothing of users without from_domains (app)") || strings.Contains(out, "the key s1") {
		t.Errorf("check says\n%s", out)
	}
	g.start(t)

	long := strings.Repeat("a", 65)
	app := &client{addr: g.submission, user: g.user, pass: g.password}
	tester := &client{addr: g.submission, user: "tester", pass: "other word"}
	defer app.close()
	defer tester.close()

	n := 0
	send := func(c *client, header string) (code int, text, signed string) {
		code, text = c.send("", []string{"r@example.net"}, header+"\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nx\r\n")
		if code != 250 {
			return code, text, ""
		}
		n++
		m := regexp.MustCompile(`(?s)^DKIM-Signature:.*?\bd=([^;]+);`).FindSubmatch(s.wait(t, n).Data)
		if m != nil {
			signed = string(m[1])
		}
		return code, text, signed
	}
	for _, c := range []struct {
		who          *client
		header       string
		code         int
		words, wants string
	}{
		{tester, "From: a@allowed.example", 250, "", "allowed.example"},
		{tester, "From: \"ceo@example.com\" <a@allowed.example>", 250, "", "allowed.example"},
		{tester, "From: ceo@example.com", 550, "5.7.1 You may not send as ceo@example.com (From)", ""},
		{tester, "From: \"a@b\"@allowed.example (<ceo@example.com>)", 550, `5.7.1 You may not send as "a@b"@allowed.example (<ceo@example.com>) (From)`, ""},
		{tester, "From: " + long + "@allowed.example (<ceo@example.com>)", 550, "5.7.1", ""},
		{tester, "From: \"a<ceo@example.com>\"@allowed.example", 550, "5.7.1", ""},
		{tester, "From: a@allowed.example\r\nSender: <x@allowed.example> (<ceo@example.com>)", 550, "5.7.1 You may not send as <x@allowed.example> (<ceo@example.com>) (Sender)", ""},
		{tester, "From: Allowed, Inc. <a@allowed.example>", 550, "its display name has to be quoted", ""},
		{app, "From: a@example.com", 250, "", "example.com"},
		{app, "From: Example, Inc. <a@example.com>", 250, "", "example.com"},
		{app, "From: Allowed, Inc. <a@allowed.example>", 250, "", ""},
		{app, "From: a@allowed.example", 250, "", ""},
		{app, "From: a@x.allowed.example", 250, "", ""},
		{app, "From: a@x.example (<a@example.com>)", 250, "", ""},
	} {
		code, text, signed := send(c.who, c.header)
		if code != c.code || !strings.Contains(text, c.words) || signed != c.wants {
			t.Errorf("%s: %s: got %d %s, signed by %q, want %d %s, signed by %q",
				c.who.user, c.header, code, text, signed, c.code, c.words, c.wants)
		}
	}

	file := filepath.Join(g.dir, "users.toml")
	writeFile(t, file, strings.Replace(readFile(t, file), "allowed.example", "other.example", 1))
	waitFor(t, "the changed users file", func() bool { return strings.Contains(g.log.String(), "users file taken") })
	if code, text, signed := send(app, "From: a@allowed.example"); code != 250 || signed != "allowed.example" {
		t.Errorf("nobody is held to allowed.example any more: %d %s, signed by %q", code, text, signed)
	}
	g.stop(t)
}

// TestUpstreamWantsLogin: what the upstream says of our session is temporary for
// the client, and nothing is lost once it is content again.
func TestUpstreamWantsLogin(t *testing.T) {
	var refuses atomic.Bool
	s := startSink(t, sink.Config{Script: func(phase, _ string) sink.Action {
		if phase == "MAIL" && refuses.Load() {
			return sink.Action{Reply: "530 5.7.0 Must issue a STARTTLS command first"}
		}
		return sink.Action{}
	}})
	g := newGateway(t, s.addr, "")
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	defer c.close()

	for _, step := range []struct {
		refuses bool
		want    string
	}{{false, "250"}, {true, "451 4.4.1"}, {true, "451 4.4.1"}, {false, "250"}} {
		refuses.Store(step.refuses)
		code, text := c.send("a@example.com", []string{"b@example.net"}, newsletter)
		if got := fmt.Sprint(code, " ", text); !strings.HasPrefix(got, step.want) {
			t.Errorf("upstream refuses %v: got %s, want %s", step.refuses, got, step.want)
		}
	}
	g.stop(t)
}

// TestReturnedMessage: a DSN has nothing in it that may not leave, and arrives
// whatever the upstream's answer holds.
func TestReturnedMessage(t *testing.T) {
	s := startSink(t, sink.Config{Script: func(phase, line string) sink.Action {
		if phase == "RCPT" && strings.Contains(line, "<gone") {
			return sink.Action{Reply: "550 5.1.1 no \rsuch user"}
		}
		return sink.Action{}
	}})
	g := newGateway(t, s.addr, "")
	g.start(t)

	secrets := "Bcc: hidden-one@secret.example\r\nX-DKIM-Key: secret\r\nX-MSYS-API: {\"metadata\":{\"token\":\"tok-secret\"}}\r\n"
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	defer c.close()
	if code, text := c.send("sender@example.com", []string{"r@example.net", "gone@example.net"}, secrets+newsletter); code != 250 {
		t.Fatalf("%d %s", code, text)
	}

	var dsn string
	waitFor(t, "the DSN", func() bool {
		for _, m := range s.messages() {
			if m.From == "" && m.To == "sender@example.com" {
				dsn = string(m.Data)
			}
		}
		return dsn != ""
	})
	if strings.Contains(dsn, "secret") || !strings.Contains(dsn, "Diagnostic-Code: smtp; 550 5.1.1 no ?such user") || !strings.Contains(dsn, "Subject: Hello") {
		t.Errorf("returned:\n%s", dsn)
	}
	g.stop(t)
}
