package integration

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

const newsletter = "From: News <news@example.com>\r\nTo: reader@example.net\r\nSubject: Hello\r\nDate: Tue, 24 Nov 2026 08:00:00 +0000\r\n" +
	"Message-ID: <1@example.com>\r\nX-Job: Spring sale\r\nX-Odd:  kept   as it is\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"b==\"\r\n\r\n" +
	"preamble\r\n--b==\r\nContent-Type: text/plain\r\n\r\nSee https://example.com/plain\r\n--b==\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
	"<html>\r\n<head><title>t</title></head>\r\n<BODY class='x'>\r\n<p>Grüße <a class=l HREF='https://example.com/reset?user=1&amp;token=2#top'>reset</a>\r\n" +
	"<a data-msys-clicktrack=\"0\" href=\"https://example.com/raw\">raw</a>\r\n</p></BODY>\r\n</html>\r\n--b==--\r\nepilogue\r\n"

// TestSwaksToPostfix is the main job with real programs at both ends: swaks
// submits, Postfix takes it and hands it on, python3-dkim verifies, and the
// pixels and the link make their events.
func TestSwaksToPostfix(t *testing.T) {
	need(t, "swaks")
	needPython(t, "dkim")
	final := startSink(t, sink.Config{})
	g := newGateway(t, startPostfix(t, final.addr), "")
	g.start(t)
	file := filepath.Join(t.TempDir(), "mail.eml") // swaks adds the last line end
	if err := os.WriteFile(file, []byte(strings.TrimSuffix(newsletter, "\r\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	swaks := []string{"--server", g.submission, "--tls", "--auth", "LOGIN", "--auth-user", g.user, "--auth-password", g.password,
		"--from", "bounce@example.com", "--data", "@" + file}
	out := run(t, "", "swaks", append(swaks, "--to", "reader@example.net")...)
	if !regexp.MustCompile(`<~  250 2\.0\.0 Ok: queued as `).MatchString(out) {
		t.Errorf("Postfix's words are not the client's:\n%s", out)
	}
	m := final.wait(t, 1)
	g.verifyDKIM(t, m.Data)
	checkNewsletter(t, g, m.Data)

	refused, err := try("", "swaks", append(swaks, "--to", "nobody@example.net")...)
	if err == nil || !strings.Contains(refused, "550 5.1.1 <nobody@example.net>: Recipient address rejected: no such person") {
		t.Errorf("Postfix's refusal is not the client's:\n%s", refused)
	}
	g.stop(t)
	if n := len(g.events(t, event.Injection, 1)); n != 1 {
		t.Errorf("%d injection events for one accepted message", n)
	}
}

// checkNewsletter compares what arrived with what was sent, byte by byte but
// for the edits, and follows pixels and links.
func checkNewsletter(t *testing.T, g *gateway, got []byte) {
	t.Helper()
	at := bytes.Index(got, []byte("From: News <news@example.com>\r\n"))
	if at < 0 {
		t.Fatalf("arrived as\n%s", got)
	}
	id := regexp.MustCompile(`(?m)^X-Sp-Message-Id: ([a-z2-7]{26})\r$`).FindSubmatch(got[:at])
	if id == nil {
		t.Fatalf("no message id in\n%s", got[:at])
	}
	tracked := regexp.MustCompile(`http://` + regexp.QuoteMeta(g.tracker) + `/t/[\w-]+`)
	urls := tracked.FindAllString(string(got), -1)
	if len(urls) != 3 {
		t.Fatalf("%d tracked URLs, want two pixels and one link:\n%s", len(urls), got)
	}
	pixel := regexp.MustCompile(`<img src="URL"[^>]*>`)
	plain := tracked.ReplaceAllString(string(got[at:]), "URL")
	if n := len(pixel.FindAllString(plain, -1)); n != 2 {
		t.Errorf("%d pixels", n)
	}
	if !strings.Contains(plain, "<BODY class='x'><img") || !strings.Contains(plain, "></BODY>") {
		t.Errorf("pixels are not right behind <body> and right before </body>:\n%s", plain)
	}
	want := strings.Replace(newsletter, " data-msys-clicktrack=\"0\"", "", 1)
	want = strings.Replace(want, "https://example.com/reset?user=1&amp;token=2#top", "URL", 1)
	want = strings.Replace(want, "X-Job: Spring sale", "X-Job: Spring_sale", 1)
	if plain = pixel.ReplaceAllString(plain, ""); plain != want {
		t.Errorf("arrived as\n%q\nwant\n%q", plain, want)
	}
	for i, url := range urls {
		res := fetch(t, url)
		body, _ := io.ReadAll(res.Body)
		if i == 1 {
			if res.StatusCode != http.StatusFound || res.Header.Get("Location") != "https://example.com/reset?user=1&token=2#top" {
				t.Errorf("link: %s, Location %q", res.Status, res.Header.Get("Location"))
			}
		} else if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "image/gif" || len(body) != 43 {
			t.Errorf("pixel: %s, %d bytes of %s", res.Status, len(body), res.Header.Get("Content-Type"))
		}
	}
	for _, typ := range []event.Type{event.Injection, event.InitialOpen, event.Open, event.Click} {
		e := g.events(t, typ, 1)[0]
		if e.MessageID != string(id[1]) || e.RcptTo != "reader@example.net" || time.Since(e.Timestamp.Time).Abs() > time.Minute {
			t.Errorf("%s event %+v", typ, e)
		}
		if typ == event.Click && (e.TargetLinkURL != "https://example.com/reset?user=1&token=2#top" || e.TargetLinkName != "Raw URL") {
			t.Errorf("click event %+v", e)
		}
	}
}

// TestPythonClient submits with smtplib: many recipients, each with a copy of
// their own, in base64, which is what Python makes of UTF-8.
func TestPythonClient(t *testing.T) {
	needPython(t, "dkim")
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.start(t)
	host, port, _ := strings.Cut(g.submission, ":")
	const script = `
import smtplib, ssl, sys
from email.message import EmailMessage
host, port, user, password = sys.argv[1:]
m = EmailMessage()
m["From"], m["To"], m["Subject"] = "News <news@example.com>", "x@example.net", "Grüße"
m.set_content("plain")
m.add_alternative("<html><body><p>Grüße</p>" + "<a href='https://example.com/?a=1&amp;b=ü'>x</a>" * 3 + "</body></html>", subtype="html", cte="base64")
with smtplib.SMTP(host, int(port), timeout=30) as s:
    s.starttls(context=ssl._create_unverified_context())
    s.login(user, password)
    print(s.send_message(m, to_addrs=["a@example.net", "b@example.net", "c@example.net"]))
`
	if out := run(t, "", systemPython, "-c", script, host, port, g.user, g.password); strings.TrimSpace(out) != "{}" {
		t.Errorf("smtplib: %s", out)
	}
	s.wait(t, 3)
	ids := map[string]bool{}
	for _, m := range s.messages() {
		g.verifyDKIM(t, m.Data)
		ids[string(regexp.MustCompile(`X-Sp-Message-Id: (\S+)`).FindSubmatch(m.Data)[1])] = true
		if bytes.Contains(m.Data, []byte("http://"+g.tracker)) {
			t.Error("tracked URLs stand in plain: the part lost its base64")
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d message ids for 3 recipients", len(ids))
	}
	g.stop(t)
	if n := len(g.events(t, event.Injection, 3)); n != 3 {
		t.Errorf("%d injection events", n)
	}
}

// TestCurlClient submits with curl, and without a body part to track.
func TestCurlClient(t *testing.T) {
	need(t, "curl")
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.start(t)
	const mail = "From: a@example.com\r\nSubject: plain\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\n.starts with a dot\r\n"
	run(t, mail, "curl", "--silent", "--show-error", "--ssl-reqd", "--insecure", "--url", "smtp://"+g.submission, "--user", g.user+":"+g.password,
		"--mail-from", "a@example.com", "--mail-rcpt", "b@example.net", "--upload-file", "-")
	if got := s.wait(t, 1).Data; !bytes.HasSuffix(got, []byte(mail)) {
		t.Errorf("arrived as\n%q", got)
	}
	g.stop(t)
}

// TestUpstreamAway: no upstream, then a temporary answer, never a 5xx of ours.
func TestUpstreamAway(t *testing.T) {
	need(t, "swaks")
	g := newGateway(t, freePort(t), "")
	g.start(t)
	out, err := try("", "swaks", "--server", g.submission, "--tls", "--auth", "PLAIN", "--auth-user", g.user, "--auth-password", g.password,
		"--from", "a@example.com", "--to", "b@example.net")
	if err == nil || !strings.Contains(out, "451 4.4.1 Upstream is not reachable") {
		t.Errorf("swaks: %v\n%s", err, out)
	}
	if status, body := g.get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d %s", status, body)
	}
	if status, body := g.get("/metrics"); status != http.StatusOK || !strings.Contains(body, `postern_relay_copies_total{result="deferred"} 1`) {
		t.Errorf("metrics: %d\n%s", status, body)
	}
	g.stop(t)
}

// TestSubmissionRules is what swaks sees of a listener that is nobody's relay.
func TestSubmissionRules(t *testing.T) {
	need(t, "swaks")
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.start(t)
	base := []string{"--server", g.submission, "--from", "a@example.com", "--to", "b@example.net"}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no TLS", nil, "530 5.7.0 Must issue a STARTTLS command first"},
		{"no AUTH", []string{"--tls"}, "530 5.7.0 Authentication required"},
		{"wrong password", []string{"--tls", "--auth", "LOGIN", "--auth-user", g.user, "--auth-password", "wrong"}, "535 5.7.8"},
		{"AUTH without TLS", []string{"--auth", "LOGIN", "--auth-user", g.user, "--auth-password", g.password}, "Host did not advertise authentication"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := try("", "swaks", append(c.args, base...)...)
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("swaks: %v\n%s", err, out)
			}
		})
	}
	if n := len(s.messages()); n != 0 {
		t.Errorf("%d messages went through", n)
	}
	g.stop(t)
}

// TestRestart: events that were not taken wait on disk for the next start.
func TestRestart(t *testing.T) {
	need(t, "curl")
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	var away atomic.Bool
	away.Store(true)
	g.ingest.Fail = func(int, *http.Request) (int, http.Header, bool) {
		if away.Load() {
			return http.StatusServiceUnavailable, nil, false
		}
		return 0, nil, true
	}
	g.start(t)
	run(t, newsletter, "curl", "--silent", "--show-error", "--ssl-reqd", "--insecure", "--url", "smtp://"+g.submission, "--user", g.user+":"+g.password,
		"--mail-from", "a@example.com", "--mail-rcpt", "b@example.net", "--upload-file", "-")
	waitFor(t, "a failed upload", func() bool { return strings.Contains(g.log.String(), "upload failed") })
	g.stop(t)
	if n := len(g.ingest.Events()); n != 0 {
		t.Fatalf("%d events were taken", n)
	}
	away.Store(false)
	g.start(t)
	g.events(t, event.Injection, 1)
	g.stop(t)
}

// TestDemo runs the README's first command and its own swaks line.
func TestDemo(t *testing.T) {
	need(t, "swaks")
	g := &gateway{}
	dir := t.TempDir()
	g.cmd, g.log, g.exited = nil, &syncBuffer{}, make(chan error, 1)
	cmd := exec.Command(postern, "demo", "--state-dir", dir)
	cmd.Stdout, cmd.Stderr = g.log, g.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.cmd = cmd
	go func() { g.exited <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	waitFor(t, "the demo", func() bool { return strings.Contains(g.log.String(), "Ctrl-C ends it.") })
	for _, tool := range []string{"swaks", "curl"} {
		line := regexp.MustCompile(`(?m)^  ` + tool + ` .*$`).FindString(g.log.String())
		run(t, "", "sh", "-c", line)
	}
	page := regexp.MustCompile(`page +http://([^/]+)/`).FindStringSubmatch(g.log.String())
	g.admin = page[1]
	if status, body := g.get("/"); status != http.StatusOK || !strings.Contains(body, "<title>Postern demo</title>") {
		t.Errorf("page: %d", status)
	}
	for n := 1; n <= 2; n++ {
		status, source := g.get(fmt.Sprintf("/demo/messages/%d/source", n))
		if status != http.StatusOK || !strings.Contains(source, "X-Job: first_mail") {
			t.Errorf("message %d: %d\n%s", n, status, source)
		}
		if status, html := g.get(fmt.Sprintf("/demo/messages/%d/html", n)); status != http.StatusOK || !strings.Contains(html, "/t/") {
			t.Errorf("message %d as HTML: %d\n%s", n, status, html)
		}
	}
	g.stop(t)
	if !strings.Contains(g.log.String(), "Stopped.") {
		t.Errorf("the demo said\n%s", g.log)
	}
}

// TestSevenBitUpstream: 8-bit mail reaches an upstream without 8BITMIME encoded
// and signed as it arrives; what needs SMTPUTF8 is refused where it lacks.
func TestSevenBitUpstream(t *testing.T) {
	s := startSink(t, sink.Config{Extensions: []string{"PIPELINING", "ENHANCEDSTATUSCODES"}})
	g := newGateway(t, s.addr, "")
	g.start(t)
	g.submit(t, "a@example.com", "r@example.net", "From: a@example.com\r\nSubject: x\r\nDate: x\r\nMessage-ID: <1@x>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngrüße\r\n")
	m := s.wait(t, 1).Data
	g.verifyDKIM(t, m)
	for _, b := range m {
		if b >= 0x80 {
			t.Fatalf("8-bit arrived:\n%s", m)
		}
	}
	if !bytes.Contains(m, []byte("gr=C3=BC=C3=9Fe")) {
		t.Errorf("%s", m)
	}
	c, err := dialSMTP(g.submission, g.user, g.password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.c.Close()
	for _, step := range []struct {
		say  string
		code int
	}{{"MAIL FROM:<a@example.com> SMTPUTF8", 250}, {"RCPT TO:<jösé@example.net>", 250}, {"DATA", 354}, {"From: a@example.com\r\n\r\nx\r\n.", 550}} {
		if code, text, err := c.command(step.say); err != nil || code != step.code {
			t.Fatalf("%s: %d %s %v", step.say, code, text, err)
		}
	}
	g.stop(t)
}
