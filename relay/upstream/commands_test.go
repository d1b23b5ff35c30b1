package upstream_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"postern/relay/envelope"
	"postern/relay/upstream"
)

// TestCommands checks that parameters are sent only to upstreams that offer
// their extensions.
func TestCommands(t *testing.T) {
	const all = "SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN"
	dsn := func(tr *upstream.Transaction) {
		tr.Params.Return, tr.Params.EnvelopeID = "HDRS", "id+1=x"
		tr.Recipient.Notify = []string{"SUCCESS", "FAILURE"}
		tr.Recipient.OriginalType, tr.Recipient.Original = "rfc822", "a+b@example.org"
	}
	for _, c := range []struct {
		name, offers string
		change       func(*upstream.Transaction)
		mail, rcpt   string
	}{
		{"nothing", "HELP", dsn, "", ""},
		{"size", "SIZE", func(tr *upstream.Transaction) { tr.Recipient.Notify = nil }, " SIZE=46", ""},
		{"8-bit where it is needed", "8BITMIME", func(*upstream.Transaction) {}, "", ""},
		{"8-bit", "8BITMIME", func(tr *upstream.Transaction) { tr.EightBit = true }, " BODY=8BITMIME", ""},
		{"DSN", "DSN", dsn, " RET=HDRS ENVID=id+2B1+3Dx", " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@example.org"},
		{"DSN without wishes", "DSN", func(tr *upstream.Transaction) {
			tr.Params.EnvelopeID, tr.Recipient.Notify = "", nil
		}, "", ""},
		{"an international original recipient", "DSN", func(tr *upstream.Transaction) {
			tr.Params.EnvelopeID, tr.Recipient.Notify = "", nil
			tr.Recipient.OriginalType, tr.Recipient.Original = "utf-8", "jösé@example.org"
		}, "", " ORCPT=utf-8;" + envelope.UTF8Xtext("jösé@example.org")},
		{"all", all, func(tr *upstream.Transaction) {
			dsn(tr)
			tr.EightBit, tr.Params.UTF8 = true, true
		}, " SIZE=46 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+2B1+3Dx",
			" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@example.org"},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			offers := "250-up\r\n250-" + c.offers
			if !strings.Contains(c.offers, "\r\n") {
				offers = "250-up\r\n250 " + c.offers
			}
			s := n.host(addr, answers(true, map[string]string{"EHLO": offers}))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			tr := transaction()
			c.change(tr)
			if out := p.Send(context.Background(), tr); !out.Accepted() {
				t.Fatalf("%+v", out)
			}
			want := []string{"MAIL FROM:<a@example.com>" + c.mail, `RCPT TO:<"odd one"@example.net>` + c.rcpt, "DATA"}
			if got := s.commands()[1:]; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestWhatAnUpstreamLacks checks that a missing extension is an error before
// anything is sent.
func TestWhatAnUpstreamLacks(t *testing.T) {
	utf8 := "550 5.6.7 Upstream does not take internationalised addresses or headers"
	eight := "550 5.6.3 Message has 8-bit content and the upstream does not offer 8BITMIME"
	foreign := envelope.Address{Local: "jösé", Domain: "example.org"}
	for _, c := range []struct {
		name   string
		change func(*upstream.Transaction)
		want   string
	}{
		{"sender", func(tr *upstream.Transaction) { tr.From = foreign }, utf8},
		{"recipient", func(tr *upstream.Transaction) { tr.Recipient.Address = foreign }, utf8},
		{"header", func(tr *upstream.Transaction) { tr.Params.UTF8, tr.Params.NeedsUTF8 = true, true }, utf8},
		{"header, not asked for", func(tr *upstream.Transaction) { tr.Params.NeedsUTF8 = true }, "250 taken"},
		{"8-bit", func(tr *upstream.Transaction) { tr.EightBit = true }, eight},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, nil))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			tr := transaction()
			c.change(tr)
			out := p.Send(context.Background(), tr)
			if got := sent(out); got != c.want || out.Permanent() != (c.want[0] == '5') {
				t.Errorf("got %s, permanent %v; want %s", got, out.Permanent(), c.want)
			}
			if out.Err != nil && len(s.commands()) != 1 {
				t.Errorf("commands %q, want EHLO alone", s.commands())
			}
			if p.Idle() != 1 {
				t.Errorf("%d connections are kept, want 1", p.Idle())
			}
		})
	}
}

// TestLargeMessage checks that a large message is sent whole and unchanged.
func TestLargeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
		var want strings.Builder
		tr := transaction()
		tr.Message = nil
		for i := range 10_000 {
			line := fmt.Sprintf("line %d", i)
			want.WriteString(line + "\n")
			tr.Message = append(tr.Message, []byte(line+"\r\n"))
		}
		if out := p.Send(context.Background(), tr); !out.Accepted() {
			t.Fatalf("%+v", out)
		}
		if got := s.messages(); len(got) != 1 || got[0] != want.String() {
			t.Error("the message is another")
		}
	})
}

// TestFaultOfOurOwnEndsTheConnection checks that the connection is closed when
// a message cannot be sent, since the upstream waits for one.
func TestFaultOfOurOwnEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
		tr := transaction()
		tr.Message = [][]byte{[]byte("a\nb\r\n")}
		if got := sent(p.Send(context.Background(), tr)); got != "451 4.3.0 Message cannot be handed on, try again later" {
			t.Errorf("got %s", got)
		}
		if open.now() != 0 {
			t.Errorf("%d connections are open, want none", open.now())
		}
		synctest.Wait()
		if got := s.messages(); len(got) != 0 {
			t.Errorf("messages %q, want none that ended", got)
		}
	})
}
