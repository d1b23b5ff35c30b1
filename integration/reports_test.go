package integration

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

// refusing is a sink that knows nobody whose name begins with "gone".
func refusing(phase, line string) sink.Action {
	if phase == "RCPT" && strings.Contains(line, "<gone") {
		return sink.Action{Reply: "550 5.1.1 no such user here"}
	}
	return sink.Action{}
}

// withReports adds a port for reports to a gateway's configuration.
func withReports(t *testing.T, more string) (port25, extra string) {
	t.Helper()
	port25 = freePort(t)
	return port25, fmt.Sprintf("[reports]\nlisten = [%q]\nbounce_domains = [\"bounces.example.com\"]\nfbl_domains = [\"fbl.example.com\"]\nkeep = \"kept\"\n%s", port25, more)
}

// TestBounceThroughPostfix: Postfix takes a message, cannot deliver it, and
// sends it back to the return path, which leads to our port 25: found by VERP,
// and without it by the header of the returned message.
func TestBounceThroughPostfix(t *testing.T) {
	final := startSink(t, sink.Config{Script: refusing})
	port25, extra := withReports(t, "")
	g := newGateway(t, startPostfix(t, final.addr, route{"bounces.example.com", port25}), extra)
	for i, c := range []struct{ name, change, from string }{
		{"by the header", "", "sender@bounces.example.com"},
		{"by VERP", "verp_domain = \"bounces.example.com\"", "sender@example.com"},
	} {
		t.Run(c.name, func(t *testing.T) {
			appendConfig(t, g, "[relay]", c.change)
			g.start(t)
			g.submit(t, c.from, fmt.Sprintf("gone%d@example.net", i), newsletter)
			bounces := g.events(t, event.OutOfBand, i+1)
			b := bounces[i]
			injected := g.events(t, event.Injection, i+1)[i]
			if b.MessageID != injected.MessageID || b.RcptTo != injected.RcptTo || b.BounceClass != "10" || b.ErrorCode != "550" || !strings.Contains(b.RawReason, "no such user here") {
				t.Errorf("bounce %+v of %+v", b, injected)
			}
			g.stop(t)
		})
	}
}

// arf is a feedback report about a message.
func arf(message []byte) string {
	return "From: fbl@provider.example\r\nTo: x@fbl.example.com\r\nSubject: complaint\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=\"b\"\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nThis is a complaint.\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: provider/1\r\nVersion: 1\r\nSource-IP: 192.0.2.1\r\n\r\n" +
		"--b\r\nContent-Type: message/rfc822\r\n\r\n" + string(message) + "\r\n--b--\r\n"
}

// TestComplaint makes a feedback report of a message that was relayed: with its
// header, and without, when a token in it still tells whose it is.
func TestComplaint(t *testing.T) {
	need(t, "swaks")
	s := startSink(t, sink.Config{})
	port25, extra := withReports(t, "")
	g := newGateway(t, s.addr, extra)
	g.start(t)
	g.submit(t, "a@example.com", "reader@example.net", newsletter)
	message := s.wait(t, 1).Data
	stripped := regexp.MustCompile(`(?m)^(X-Sp-Message-Id|To): .*\r\n`).ReplaceAll(message, nil)
	for i, m := range [][]byte{message, stripped} {
		file := filepath.Join(g.dir, fmt.Sprintf("arf%d.eml", i))
		writeFile(t, file, arf(m))
		run(t, "", "swaks", "--server", port25, "--from", "fbl@provider.example", "--to", "x@fbl.example.com", "--data", "@"+file)
		if printed := run(t, "", postern, "report", "--keys", filepath.Join(g.dir, "token.keys"), file); !strings.Contains(printed, `"kind":"complaint"`) || !strings.Contains(printed, `"message_id":"`+g.events(t, event.Injection, 1)[0].MessageID+`"`) {
			t.Errorf("postern report: %s", printed)
		}
		// The second is the same complaint about the same copy: the same event_id.
		e := g.events(t, event.SpamComplaint, 1)[0]
		if e.RcptTo != "reader@example.net" || e.FeedbackType != "abuse" || e.MessageID != g.events(t, event.Injection, 1)[0].MessageID || e.SendingIP != "192.0.2.1" {
			t.Errorf("%d: %+v", i, e)
		}
	}
	waitFor(t, "both to be counted", func() bool {
		_, m := g.get("/metrics")
		return strings.Contains(m, `postern_reports_total{found="header",kind="complaint"} 1`) && strings.Contains(m, `postern_reports_total{found="token",kind="complaint"} 1`)
	})
	g.stop(t)
}

// TestPort25 shows with swaks what port 25 refuses, and that nothing that comes
// in there leaves again.
func TestPort25(t *testing.T) {
	need(t, "swaks")
	s := startSink(t, sink.Config{})
	port25, extra := withReports(t, "")
	g := newGateway(t, s.addr, extra)
	g.start(t)
	for _, c := range []struct {
		name string
		args []string
		want string
		ok   bool
	}{
		{"a stranger's recipient", []string{"--to", "test@strange.example.net"}, `550 5.7.1 relaying denied for recipient in "RCPT TO:<test@strange.example.net>"`, false},
		{"a domain below", []string{"--to", "x@sub.bounces.example.com"}, "550 5.7.1 relaying denied", false},
		{"no AUTH here", []string{"--to", "x@bounces.example.com", "--auth", "PLAIN", "--auth-user", g.user, "--auth-password", g.password, "--tls"}, "Host did not advertise authentication", false},
		{"plain mail, over TLS", []string{"--to", "x@bounces.example.com", "--tls"}, "250 2.0.0", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := try("", "swaks", append(c.args, "--server", port25, "--from", "a@example.org")...)
			if (err == nil) != c.ok || !strings.Contains(out, c.want) {
				t.Errorf("swaks: %v\n%s", err, out)
			}
		})
	}
	if kept, _ := filepath.Glob(filepath.Join(g.dir, "kept", "*.eml")); len(kept) != 1 {
		t.Errorf("kept %v", kept)
	}
	g.stop(t)
	if n := len(s.messages()); n != 0 {
		t.Errorf("%d messages left again", n)
	}
	for _, e := range g.ingest.Events() {
		t.Errorf("event %+v", e.Event)
	}
}

// TestPort25LeavesSubmissionItsMemory: strangers that announce large messages,
// and hold on to what they may, take nothing from who submits.
func TestPort25LeavesSubmissionItsMemory(t *testing.T) {
	s := startSink(t, sink.Config{})
	port25, extra := withReports(t, "")
	g := newGateway(t, s.addr, extra)
	writeFile(t, g.config, "memory_budget = \"128MiB\"\n"+readFile(t, g.config))
	g.start(t)
	for range 40 {
		c, err := net.Dial("tcp", port25)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p := &session{}
		p.use(c)
		if err := p.expect("220"); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"EHLO mx.example.net", "MAIL FROM:<> SIZE=10000000", "RCPT TO:<x@bounces.example.com>"} {
			if code, reply, err := p.command(line); err != nil || code != 250 {
				t.Fatalf("%s: %d %s, %v", line, code, reply, err)
			}
		}
		if code, reply, err := p.command("DATA"); err != nil || code != 354 {
			t.Fatalf("DATA: %d %s, %v", code, reply, err)
		}
		p.w.WriteString("Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 40_000))
		if err := p.w.Flush(); err != nil {
			t.Fatal(err)
		}
	}

	g.submit(t, "a@example.com", "b@example.net", newsletter)
	if m := s.wait(t, 1); m.To != "b@example.net" {
		t.Errorf("%+v", m)
	}
}

// TestUnsubscribeMail answers a List-Unsubscribe of ours by mail.
func TestUnsubscribeMail(t *testing.T) {
	need(t, "swaks")
	s := startSink(t, sink.Config{})
	port25, extra := withReports(t, "")
	g := newGateway(t, s.addr, extra)
	appendConfig(t, g, "[tracking]", "list_unsubscribe = true")
	g.start(t)
	g.submit(t, "a@example.com", "reader@example.net", newsletter)
	message := s.wait(t, 1).Data
	g.verifyDKIM(t, message)
	m := regexp.MustCompile(`\r\n <mailto:(unsubscribe@bounces\.example\.com)\?subject=([\w-]+)>\r\n`).FindSubmatch(message)
	if m == nil {
		t.Fatalf("no mailto:\n%s", message)
	}
	run(t, "", "swaks", "--server", port25, "--from", "reader@example.net", "--to", string(m[1]), "--header", "Subject: "+string(m[2]))
	if e := g.events(t, event.ListUnsubscribe, 1)[0]; e.RcptTo != "reader@example.net" {
		t.Errorf("%+v", e)
	}
	g.stop(t)
}
