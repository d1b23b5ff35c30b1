package relay

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/tracking/rewrite"
	"postern/tracking/token"
)

// TestEnvelopeOfACopy: what goes upstream beside the message.
func TestEnvelopeOfACopy(t *testing.T) {
	for _, c := range []struct {
		name    string
		header  string
		params  envelope.MailParams
		want    envelope.MailParams // an EnvelopeID of ID is the message id
		eight   bool
		powerMT bool
	}{
		{name: "nothing asked for", want: envelope.MailParams{EnvelopeID: "ID"}, powerMT: true},
		{
			name:    "ENVID, RET and SIZE",
			params:  envelope.MailParams{EnvelopeID: "e", Return: "HDRS", Size: 7},
			want:    envelope.MailParams{EnvelopeID: "e", Return: "HDRS", Size: 7},
			powerMT: true,
		},
		{name: "X-Envid", header: "X-Envid: an envid\r\n", want: envelope.MailParams{EnvelopeID: "an envid"}, powerMT: true},
		{name: "X-Envid for another upstream", header: "X-Envid: an envid\r\n", want: envelope.MailParams{EnvelopeID: "an envid"}},
		{
			name:    "ENVID before X-Envid",
			header:  "X-Envid: x\r\n",
			params:  envelope.MailParams{EnvelopeID: "e"},
			want:    envelope.MailParams{EnvelopeID: "e"},
			powerMT: true,
		},
		{name: "X-Envid that is not printable", header: "X-Envid: \xfc\r\n", want: envelope.MailParams{EnvelopeID: "ID"}, eight: true, powerMT: true},
		{name: "X-Envid that is too long", header: "X-Envid: " + strings.Repeat("x", 101) + "\r\n", want: envelope.MailParams{EnvelopeID: "ID"}, powerMT: true},
		{
			name:    "SMTPUTF8 that is not needed",
			params:  envelope.MailParams{UTF8: true},
			want:    envelope.MailParams{UTF8: true, EnvelopeID: "ID"},
			powerMT: true,
		},
		{
			name:    "SMTPUTF8",
			header:  "Subject: \u00fc\r\n",
			params:  envelope.MailParams{UTF8: true},
			want:    envelope.MailParams{UTF8: true, NeedsUTF8: true, EnvelopeID: "ID"},
			eight:   true,
			powerMT: true,
		},
		{name: "8-bit header without SMTPUTF8", header: "Subject: \u00fc\r\n", want: envelope.MailParams{EnvelopeID: "ID"}, eight: true, powerMT: true},
	} {
		for _, always := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", store and forward: ", always), func(t *testing.T) {
				b := newBench(t, func(conf *Config) { conf.Headers.PowerMTA, conf.Sending.QueueAlways = c.powerMT, always })
				s := submission("From: a@example.com\r\n"+c.header+"\r\nx\r\n", "r")
				s.Envelope.Params = c.params
				s.Envelope.Recipients[0].Notify = []string{"FAILURE"}
				b.submit(s)
				if always {
					b.relay.Deliver(context.Background(), b.queue.got[0], 0, 0)
				}

				got, want := b.up.got[0], c.want
				if want.EnvelopeID == "ID" {
					want.EnvelopeID = got.MessageID
				}
				if got.Params != want || got.EightBit != c.eight {
					t.Errorf("got %+v, 8-bit %v, want %+v, %v", got.Params, got.EightBit, want, c.eight)
				}
				if got.From != s.Envelope.From || got.Recipient.Address != s.Envelope.Recipients[0].Address ||
					fmt.Sprint(got.Recipient.Notify) != "[FAILURE]" || got.Session != "s.1" {
					t.Errorf("got %+v", got)
				}
				if _, err := b.keys.ParseID(got.MessageID); err != nil {
					t.Errorf("message id %q: %v", got.MessageID, err)
				}
			})
		}
	}
}

// TestEightBitBody: content above 0x7f is told of.
func TestEightBitBody(t *testing.T) {
	for body, want := range map[string]bool{"gr\u00fcn\r\n": true, "green\r\n": false} {
		b := newBench(t, nil)
		b.submit(submission("From: a@example.com\r\n\r\n"+body, "r"))
		if got := b.up.got[0].EightBit; got != want {
			t.Errorf("%q: EightBit %v, want %v", body, got, want)
		}
	}
}

// TestFirstFields of a copy, for PowerMTA and for another upstream.
func TestFirstFields(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 15, 0, time.FixedZone("", 3600))
	const message = "From: a@other.example\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nx\r\n"
	received := "Received: from app.example ([192.0.2.7])\r\n\tby gw.example with ESMTPSA (TLS 1.3 X) id s.1;\r\n\tSun, 01 Mar 2026 12:30:15 +0100\r\n"

	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string // ID stands for the message id
	}{
		{"PowerMTA", nil, received + "X-Sp-Message-Id: ID\r\n" + message},
		{"another upstream", func(c *Config) { c.Headers.PowerMTA = false }, received + message},
		{"no Received", func(c *Config) { c.Headers.Received = "off" }, "X-Sp-Message-Id: ID\r\n" + message},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) {
				conf.Now = func() time.Time { return now }
				if c.change != nil {
					c.change(conf)
				}
			})
			b.submit(submission(message, "r"))
			sent := b.up.got[0]
			if got := strings.ReplaceAll(string(sent.Message[0]), sent.MessageID, "ID"); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestReceived is RFC 5321 section 4.4, as the configuration wants it.
func TestReceived(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 15, 0, time.UTC)
	const date = "Sun, 01 Mar 2026 12:30:15 +0000"

	for _, c := range []struct {
		name, received, remote, helo, tls, want string
	}{
		{"full", "full", "192.0.2.7:1", "app.example", "TLS 1.3 X", "Received: from app.example ([192.0.2.7])\r\n\tby gw.example with ESMTPSA (TLS 1.3 X) id s.1;\r\n\t" + date + "\r\n"},
		{"not said", "", "192.0.2.7:1", "app.example", "TLS 1.3 X", "Received: from app.example ([192.0.2.7])\r\n\tby gw.example with ESMTPSA (TLS 1.3 X) id s.1;\r\n\t" + date + "\r\n"},
		{"no TLS", "full", "192.0.2.7:1", "app.example", "", "Received: from app.example ([192.0.2.7])\r\n\tby gw.example with ESMTPSA id s.1;\r\n\t" + date + "\r\n"},
		{"IPv6", "full", "[2001:db8::1]:1", "a", "", "Received: from a ([IPv6:2001:db8::1])\r\n\tby gw.example with ESMTPSA id s.1;\r\n\t" + date + "\r\n"},
		{"IPv4 by IPv6", "full", "[::ffff:192.0.2.7]:1", "a", "", "Received: from a ([192.0.2.7])\r\n\tby gw.example with ESMTPSA id s.1;\r\n\t" + date + "\r\n"},
		{"anonymous", "anonymous", "192.0.2.7:1", "app.example", "TLS 1.3 X", "Received: by gw.example with ESMTPSA (TLS 1.3 X) id s.1;\r\n\t" + date + "\r\n"},
		{"off", "off", "192.0.2.7:1", "app.example", "TLS 1.3 X", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Headers.Received = c.received })
			s := submission("")
			s.Remote, s.Helo, s.TLS = netip.MustParseAddrPort(c.remote), c.helo, c.tls
			if got := string(b.relay.receivedField(s, now)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestSafeHelo: what a client calls itself cannot end the field or begin a
// comment, and is cut at 255 bytes.
func TestSafeHelo(t *testing.T) {
	for c := range 0x80 {
		in := "a" + string(rune(c)) + "b"
		want := in
		if c <= ' ' || c > '~' || strings.ContainsRune(`()<>"\;`, rune(c)) {
			want = "ab"
		}
		if got := safeHelo(in); got != want {
			t.Errorf("safeHelo(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"":                        "unknown",
		"\u00fc()":                "unknown",
		"[192.0.2.1]":             "[192.0.2.1]",
		strings.Repeat("h", 255):  strings.Repeat("h", 255),
		strings.Repeat("h", 256):  strings.Repeat("h", 255),
		strings.Repeat("h", 5000): strings.Repeat("h", 255),
	} {
		if got := safeHelo(in); got != want {
			t.Errorf("safeHelo of %d bytes: %d bytes %.20q, want %d", len(in), len(got), got, len(want))
		}
	}
}

// failingKey is a key that cannot sign, as one in a device that is away.
type failingKey struct{ crypto.Signer }

func (failingKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("device is away")
}

// TestSignatureThatFails: the message is sent again later, never without its
// signature.
func TestSignatureThatFails(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) {
		c.Signing.Signer = dkim.NewSigner([]dkim.Key{{Domain: "example.com", Selector: "s", Private: failingKey{testKey()}}})
	})

	got := b.submit(submission(htmlMessage, "r"))
	if want := "451 4.7.0 Message could not be signed, try again later"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(b.up.got) != 0 || len(b.rec.events) != 0 {
		t.Errorf("%d copies and %d events, want none", len(b.up.got), len(b.rec.events))
	}
	line := lines.of(t, "copy")[0]
	check(t, line, map[string]any{"outcome": "deferred"})
	if text, _ := line["err"].(string); !strings.Contains(text, "device is away") {
		t.Errorf("err is %q, want the cause", text)
	}

	b.relay.cfg.Sending.QueueAlways = true
	if again := b.submit(submission(htmlMessage, "r")); again != got || len(b.queue.got) != 0 {
		t.Errorf("store and forward: got %q, %d transactions, want the same answer and none", again, len(b.queue.got))
	}
	for err, want := range map[error]int{
		errDisk: 452,
		reply.Refuse(550, reply.EnhancedCode{5, 0, 0}, "no"):        452,
		reply.Defer(450, reply.EnhancedCode{4, 0, 0}, "later", nil): 450,
		&reply.Fault{Class: reply.Overloaded, Err: errDisk}:         452,
	} {
		if got := notQueued(err).Code; got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

// TestSignatureTimes: signatures say when they were made, and how long they last.
func TestSignatureTimes(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for life, want := range map[time.Duration]string{0: "", time.Hour: "1800003600"} {
		b := newBench(t, func(c *Config) {
			c.Now, c.Signing.Life = func() time.Time { return now }, life
		})
		b.submit(submission(htmlMessage, "r"))
		msg := string(b.up.got[0].Message[0])
		if !regexp.MustCompile(`\bt=1800000000;`).MatchString(msg) {
			t.Errorf("no time in\n%s", msg)
		}
		expires := ""
		if m := regexp.MustCompile(`\bx=(\d+);`).FindStringSubmatch(msg); m != nil {
			expires = m[1]
		}
		if expires != want {
			t.Errorf("life %s: x=%s, want %s", life, expires, want)
		}
	}
}

// TestSessionsOwnWay: a session with a login at the upstream sends by that.
func TestSessionsOwnWay(t *testing.T) {
	b := newBench(t, nil)
	s := submission(htmlMessage, "a", "b")
	own := &fakeUpstream{}
	s.Via = own
	b.submit(s)
	if len(own.got) != 2 || len(b.up.got) != 0 {
		t.Errorf("%d copies by the session's way and %d by the relay's, want 2 and 0", len(own.got), len(b.up.got))
	}
}

// TestCopiesAtOnce: no more copies are on their way than are allowed, and no
// fewer.
func TestCopiesAtOnce(t *testing.T) {
	for _, c := range []struct{ allowed, recipients, want int }{{1, 5, 1}, {3, 5, 3}, {8, 5, 5}, {0, 20, 8}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Sending.CopiesAtOnce = c.allowed })
			synctest.Test(t, func(t *testing.T) {
				sending := make(chan struct{}, c.recipients)
				finish := make(chan struct{})
				b.up.during = func() {
					sending <- struct{}{}
					<-finish
				}
				to := make([]string, c.recipients)
				for i := range to {
					to[i] = fmt.Sprint("r", i)
				}

				done := make(chan reply.Reply)
				go func() { done <- b.relay.Submit(context.Background(), submission(htmlMessage, to...)) }()
				synctest.Wait()
				if got := len(sending); got != c.want {
					t.Errorf("%d copies at once, want %d", got, c.want)
				}
				close(finish)
				if answer := <-done; answer.Code != 250 || len(b.up.got) != c.recipients {
					t.Errorf("%v, %d copies, want %d", answer, len(b.up.got), c.recipients)
				}
			})
		})
	}
}

// TestOverdueByTheClock: after four minutes the client has its answer, and what
// has none waits in the retry spool.
func TestOverdueByTheClock(t *testing.T) {
	for _, c := range []struct {
		name   string
		within time.Duration
		late   time.Duration
		want   string
		queued int
	}{
		{"in time", 0, 4*time.Minute - time.Second, "250 2.0.0 Ok: queued as s.1", 0},
		{"too late", 0, 4*time.Minute + time.Second, "250 2.0.0 Ok: queued as s.1", 1},
		{"configured", time.Second, 2 * time.Second, "250 2.0.0 Ok: queued as s.1", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Sending.AnswerWithin = c.within })
			synctest.Test(t, func(t *testing.T) {
				b.relay.cfg.Upstream = &lateUpstream{b.up, c.late}
				start := time.Now()
				got := b.submit(submission(htmlMessage, "a", "late"))
				if got != c.want || len(b.queue.got) != c.queued {
					t.Errorf("got %q, %d queued, want %q, %d", got, len(b.queue.got), c.want, c.queued)
				}
				limit := c.late
				if c.queued > 0 {
					limit = b.relay.cfg.Sending.AnswerWithin
				}
				if took := time.Since(start); took != limit {
					t.Errorf("answered after %s, want %s", took, limit)
				}
			})
		})
	}
}

// lateUpstream takes its time with one recipient.
type lateUpstream struct {
	*fakeUpstream
	late time.Duration
}

func (l *lateUpstream) Send(ctx context.Context, t *upstream.Transaction) upstream.Outcome {
	if t.Recipient.Address.Local == "late" {
		select {
		case <-time.After(l.late):
		case <-ctx.Done():
			return upstream.Outcome{Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lost", ctx.Err())}
		}
	}
	return l.fakeUpstream.Send(ctx, t)
}

// TestClientGoneIsNotOverdue: what has no answer when its client goes is the
// client's to send again, and waits nowhere.
func TestClientGoneIsNotOverdue(t *testing.T) {
	b := newBench(t, nil)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.relay.cfg.Upstream = &lateUpstream{b.up, time.Hour}

		answer := b.relay.Submit(ctx, submission(htmlMessage, "late"))
		if want := "451 4.4.2 lost"; answer.String() != want || len(b.queue.got) != 0 {
			t.Errorf("got %q, %d queued, want %q and none", answer, len(b.queue.got), want)
		}
	})
}

// TestStampsOfACopy: each URL is a token of its own kind, of the recipient, and
// for the host that it leads to.
func TestStampsOfACopy(t *testing.T) {
	b := newBench(t, nil)
	for _, c := range []struct {
		name string
		make func(*stamper) string
		kind token.Kind
		link rewrite.Link
	}{
		{"link", nil, token.Click, rewrite.Link{Target: "https://e.example/", Name: "n"}},
		{"link of AMP", nil, token.AmpClick, rewrite.Link{Target: "https://e.example/", AMP: true}},
		{"link to unsubscribe", nil, token.LinkUnsubscribe, rewrite.Link{Target: "https://e.example/", Unsubscribe: true}},
		{"link of AMP to unsubscribe", nil, token.LinkUnsubscribe, rewrite.Link{Target: "https://e.example/", Unsubscribe: true, AMP: true}},
		{"pixel", func(s *stamper) string { return s.Pixel(false, false) }, token.Open, rewrite.Link{}},
		{"first pixel", func(s *stamper) string { return s.Pixel(true, false) }, token.InitialOpen, rewrite.Link{}},
		{"pixel of AMP", func(s *stamper) string { return s.Pixel(false, true) }, token.AmpOpen, rewrite.Link{}},
		{"first pixel of AMP", func(s *stamper) string { return s.Pixel(true, true) }, token.AmpInitialOpen, rewrite.Link{}},
		{"List-Unsubscribe", func(s *stamper) string { return strings.Trim(s.unsubscribe(""), "<>") }, token.ListUnsubscribe, rewrite.Link{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &outgoing{route: route{report: true, tracking: Tracking{URL: "https://T.example:8443/x"}, subaccount: 7}}
			cp := &recipientCopy{id: b.keys.NewID(time.Now()), recipient: recipient("r")}
			cp.linksOf = cp
			s := b.relay.stamper(m, cp)
			url := ""
			if c.make != nil {
				url = c.make(s)
			} else {
				url = s.Link(c.link)
			}

			text, ok := strings.CutPrefix(url, "https://T.example:8443/x/t/")
			if !ok {
				t.Fatalf("got %s", url)
			}
			got, err := b.keys.Open(text, token.HostOf(m.route.tracking.URL))
			want := token.Token{
				Kind:       c.kind,
				Host:       token.HostOf(m.route.tracking.URL),
				MessageID:  cp.id,
				Recipient:  "r@Example.NET",
				Subaccount: 7,
				Target:     c.link.Target,
				LinkName:   c.link.Name,
			}
			if err != nil || got != want {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
			}
		})
	}

	m := &outgoing{route: route{tracking: Tracking{URL: "https://t.example"}}}
	cp := &recipientCopy{recipient: recipient("r")}
	cp.linksOf = cp
	got := b.relay.stamper(m, cp).Link(rewrite.Link{Target: "https://e.example/", Sublink: "a/b"})
	if !strings.HasPrefix(got, "https://t.example/t/a/b/") {
		t.Errorf("sublink: got %s", got)
	}
}

// TestMaxURL bounds the links of all copies.
func TestMaxURL(t *testing.T) {
	b := newBench(t, nil)
	s := submission(htmlMessage, "a", strings.Repeat("l", 60), "b")
	m, err := b.relay.prepare(s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []rewrite.Link{
		{Target: "https://e.example/"},
		{Target: "https://e.example/", Name: "name", Sublink: "a/b"},
	} {
		longest := 0
		for _, c := range m.copies {
			longest = max(longest, len(b.relay.stamper(m, c).Link(l)))
		}
		if got := m.maxURL(l); longest > got || got > longest+40 {
			t.Errorf("%+v: bound %d, the longest has %d bytes", l, got, longest)
		}
	}
}

// TestRewritingOptions: what the configuration says of links.
func TestRewritingOptions(t *testing.T) {
	link := regexp.MustCompile(`https://t\.example/t/`)
	html := "From: a@example.com\r\nContent-Type: text/html\r\n\r\n<a href=\"https://e.example/" + strings.Repeat("x", 300) + "\">x</a>\r\n"
	text := "From: a@example.com\r\nContent-Type: text/plain\r\n\r\nhttps://e.example/\r\n"
	eight := "From: a@example.com\r\nContent-Type: text/plain; charset=utf-8\r\n\r\ngr\u00fcn\r\n"

	for _, c := range []struct {
		name, message string
		change        func(*Config)
		links         int
		eight         bool
	}{
		{name: "link", message: html, links: 1},
		{name: "long link", message: html, change: func(c *Config) { c.Tracking.MaxLinkLength = 300 }},
		{name: "link that is short enough", message: html, change: func(c *Config) { c.Tracking.MaxLinkLength = 3000 }, links: 1},
		{name: "links are not wanted", message: html, change: func(c *Config) { c.Tracking.Default.Click = false }},
		{name: "text", message: text},
		{name: "text with links", message: text, change: func(c *Config) { c.Tracking.TextLinks = true }, links: 1},
		{name: "our own link", message: strings.Replace(html, "e.example", "t.example", 1)},
		{name: "8-bit", message: eight, eight: true},
		{name: "8-bit converted", message: eight, change: func(c *Config) { c.Sending.Convert8Bit = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) {
				conf.Tracking.Default = Tracking{URL: "https://t.example", Click: true}
				if c.change != nil {
					c.change(conf)
				}
			})
			b.submit(submission(c.message, "r"))
			got := b.up.got[0]
			if n := len(link.FindAll(got.Message[0], -1)); n != c.links || got.EightBit != c.eight {
				t.Errorf("%d links and 8-bit %v, want %d and %v in\n%s", n, got.EightBit, c.links, c.eight, got.Message[0])
			}
		})
	}
}

// TestPixels: each of the two pixels is asked for by itself.
func TestPixels(t *testing.T) {
	for _, c := range []Tracking{{Open: true}, {InitialOpen: true}, {Open: true, InitialOpen: true}, {}} {
		b := newBench(t, func(conf *Config) {
			conf.Tracking.Default = c
			conf.Tracking.Default.URL = "https://t.example"
		})
		b.submit(submission(withFields(""), "r"))

		found := Tracking{}
		for _, m := range regexp.MustCompile(`https://t\.example/t/([\w-]+)`).FindAllSubmatch(b.up.got[0].Message[0], -1) {
			tok, err := b.keys.Open(string(m[1]), "t.example")
			if err != nil {
				t.Fatal(err)
			}
			switch tok.Kind {
			case token.Open:
				found.Open = true
			case token.InitialOpen:
				found.InitialOpen = true
			}
		}
		if found != c {
			t.Errorf("got %+v, want %+v", found, c)
		}
	}
}

// TestSkippedIsLogged, and counted elsewhere.
func TestSkippedIsLogged(t *testing.T) {
	lines := &logLines{}
	b := newBench(t, func(c *Config) {
		c.Log = slog.New(slog.NewJSONHandler(&lines.out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	b.submit(submission("From: a@example.com\r\nContent-Type: text/html\r\nContent-Disposition: attachment\r\n\r\n<body></body>\r\n", "r"))
	skipped := lines.of(t, "message part not rewritten")
	if len(skipped) != 1 {
		t.Fatalf("%d lines, want 1", len(skipped))
	}
	check(t, skipped[0], map[string]any{"session": "s.1", "reason": "attachment"})
}

// TestRecipientsOfXMsysAPI are bounded together with those of the envelope.
func TestRecipientsOfXMsysAPI(t *testing.T) {
	api := "X-MSYS-API: {\"cc\":[\"c@x.example\"],\"bcc\":[\"b@x.example\"],\"archive\":[\"ar@x.example\"]}\r\n"
	for limit, want := range map[int]string{
		0: "250 2.0.0 Ok: queued as s.1",
		4: "250 2.0.0 Ok: queued as s.1",
		3: "550 5.5.3 Too many recipients with those of X-MSYS-API",
	} {
		b := newBench(t, func(c *Config) { c.Headers.MsysAPI, c.Routes.MaxRecipients = true, limit })
		if got := b.submit(submission(withFields(api), "a")); got != want {
			t.Errorf("at most %d: got %q, want %q", limit, got, want)
		}
	}
}

// TestOriginatorRefusals: what a client is told that sends as somebody else.
func TestOriginatorRefusals(t *testing.T) {
	for _, c := range []struct{ from, header, want string }{
		{"x@own.example", "Subject: x\r\n", "550 5.7.1 You may not send without a From"},
		{"x@own.example", "From: \r\n", "550 5.7.1 You may not send as an empty address (From): its addresses cannot be told for certain; write it once, as name <user@domain>"},
		{"x@own.example", "From: A, B <a@own.example>\r\n", `550 5.7.1 You may not send as A, B <a@own.example> (From): its display name has to be quoted, as in "Example, Inc." <user@domain>`},
		{"x@own.example", "From: a@own.example\r\nSender: x\r\n", "550 5.7.1 You may not send as x (Sender): its addresses cannot be told for certain; write it once, as name <user@domain>"},
		{"x@other.example", "From: a@own.example\r\n", "550 5.7.1 You may not send as x@other.example (MAIL FROM)"},
		{"", "From: a@own.example\r\n", "250 2.1.1 taken"},
		{"x@own.example", "From: a@own.example\r\n", "250 2.1.1 taken"},
	} {
		b := newBench(t, nil)
		s := submission(c.header+"\r\nx\r\n", "r")
		s.User.FromDomains = []string{"own.example"}
		s.Envelope.From, _ = envelope.FromUnquoted(c.from)
		if got := b.submit(s); got != c.want {
			t.Errorf("MAIL FROM:<%s>, %q:\ngot  %s\nwant %s", c.from, c.header, got, c.want)
		}
	}

	for n, want := range map[int]int{318: 318, 319: 318} {
		if got := len(refusedText(strings.Repeat("x", n))); got != want {
			t.Errorf("a refusal repeats %d bytes of %d, want %d", got, n, want)
		}
	}
}
