package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
)

// TestSmuggling throws every combination of CR, LF and a dot around what could
// pass for the end of a message at the listener, by DATA and BDAT, with Postfix
// as upstream: one message stays one message, or is refused; nothing that stands
// behind the false end becomes a message of its own (promises, Security 3).
func TestSmuggling(t *testing.T) {
	final := startSink(t, sink.Config{})
	g := newGateway(t, startPostfix(t, final.addr), "")
	for _, newlines := range []string{"refuse", "normalise"} {
		t.Run(newlines, func(t *testing.T) {
			appendConfig(t, g, "[submission]", "bare_newlines = \""+newlines+"\"")
			g.start(t)
			before := len(final.messages())
			ends := []string{"\r\n", "\n", "\r", "\r\r\n", "\n\r", "\n\n", "\r\r", "\r\n\x00", ""}
			sent, taken := 0, 0
			for _, before := range ends {
				for _, after := range ends {
					for _, chunked := range []bool{false, true} {
						if before == "\r\n" && after == "\r\n" && !chunked {
							continue // the true end
						}
						sent++
						if smuggle(t, g, before+"."+after, chunked) {
							taken++
						}
					}
				}
			}
			waitFor(t, "what was taken", func() bool { return len(final.messages()) >= before+taken })
			for _, m := range final.messages()[before:] {
				if m.To != "reader@example.net" || m.From != "a@example.com" {
					t.Errorf("a message from %s to %s was smuggled in", m.From, m.To)
				}
				if sink.Faulty(m.Data) {
					t.Errorf("bare CR, LF or NUL arrived: %q", m.Data)
				}
			}
			if n := len(final.messages()) - before; n != taken {
				t.Errorf("%d messages arrived of %d taken", n, taken)
			}
			t.Logf("%d variants, %d taken as one message, the others refused", sent, taken)
			g.stop(t)
			data := strings.ReplaceAll(readFile(t, g.config), "bare_newlines = \""+newlines+"\"\n", "")
			writeFile(t, g.config, data)
		})
	}
}

// smuggle sends one message with a false end in it and, behind that, another
// transaction; it tells whether the one message was taken.
func smuggle(t *testing.T, g *gateway, falseEnd string, chunked bool) bool {
	t.Helper()
	s, err := dialSMTP(g.submission, g.user, g.password)
	if err != nil {
		t.Fatal(err)
	}
	defer s.c.Close()
	body := "From: a@example.com\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nx" + falseEnd + "MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\nFrom: evil@example.com\r\n\r\nsmuggled\r\n"
	for _, line := range []string{"MAIL FROM:<a@example.com>", "RCPT TO:<reader@example.net>"} {
		if code, text, err := s.command(line); err != nil || code != 250 {
			t.Fatalf("%s: %d %s %v", line, code, text, err)
		}
	}
	if chunked {
		fmt.Fprintf(s.w, "BDAT %d LAST\r\n%s", len(body), body)
	} else {
		if code, text, err := s.command("DATA"); err != nil || code != 354 {
			t.Fatalf("DATA: %d %s %v", code, text, err)
		}
		s.w.WriteString(body + "\r\n.\r\n")
	}
	if err := s.w.Flush(); err != nil {
		return false // refused and closed before all was sent
	}
	s.c.SetReadDeadline(time.Now().Add(20 * time.Second))
	code, _, err := s.reply()
	if err == nil && code/100 == 4 {
		t.Errorf("%q, chunked %v: %d, the client would send it for ever", falseEnd, chunked, code)
	}
	return err == nil && code == 250
}
