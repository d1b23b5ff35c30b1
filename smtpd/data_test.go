package smtpd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"postern/relay"
	"postern/relay/message"
	"postern/relay/reply"
	"postern/smtpd/auth"
)

// FuzzSession throws bytes at a session that may submit: what comes through has
// lines that end with CRLF, and nothing is left reserved.
func FuzzSession(f *testing.F) {
	const begin = "EHLO a\r\nMAIL FROM:<a@b.example> SIZE=100\r\nRCPT TO:<c@d.example>\r\n"
	for _, s := range []string{
		"DATA\r\nFrom: a@b.example\r\n\r\n..\r\n.\r\nQUIT\r\n",
		"DATA\r\nFrom: a@b.example\r\n\r\na\nb\r\n.\r\nNOOP\r\n",
		"BDAT 20\r\nFrom: a@b.example\r\n\nBDAT 0 LAST\r\n",
		"BDAT 19\r\nFrom: a@b.example\r\nNOOP\r\nBDAT 2 LAST\r\n\r\nQUIT\r\n",
		"BDAT 19\r\nFrom: a@b.example\r\nRSET\r\nBDAT 4 LAST\r\nRSET",
		"BDAT 5000 LAST\r\n",
		"BDAT 2147483647\r\nxEHLO b\r\n",
		"BDAT 19\r\nFrom: a@b.example\r\nEHLO b\r\nDATA\r\n",
		"STARTTLS\r\nAUTH LOGIN bDAt\r\n*\r\n",
	} {
		f.Add(s)
	}
	users := newClients(f, auth.Rate{}, nil)
	f.Fuzz(func(t *testing.T, in string) {
		sub, budget := &submitter{reply: reply.Reply{Code: 250}}, NewBudget(10_000)
		s := newTestServer(setup{
			Config: Config{
				Hostname: "x",
				Budget:   budget,
				Log:      quiet,
				Limits:   Limits{MaxMessageSize: 1000},
				Timeouts: Timeouts{Grace: time.Second},
			},
			Submission: Submission{
				Auth:      users,
				Submit:    sub,
				Directory: anybody{},
				Sources:   []SourceRule{{Network: netip.MustParsePrefix("127.0.0.0/8")}},
			},
		})
		l := &oneConn{c: &script{in: []byte(begin + in)}, done: make(chan struct{})}
		if err := s.Serve(context.Background(), l); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}

		for _, got := range sub.submissions() {
			if err := message.Check(got.Message); err != nil || len(got.Message) > 1000 {
				t.Errorf("submitted %q: %v", got.Message, err)
			}
		}
		nothingHeld(t, s)
	})
}

// anybody is a Directory that knows everybody.
type anybody struct{}

func (anybody) Lookup(name string) (relay.User, bool) { return relay.User{Name: name}, true }

// TestCutMessagesGetNoReply: who has closed its side in the middle of a message
// is not told anything that could be taken for an answer to it.
func TestCutMessagesGetNoReply(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]string{
		"DATA": "DATA\r\n",
		"BDAT": "BDAT 500 LAST\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startServer(t, options["source"], false)
			p := dialFrom(t, r, "127.0.0.1")
			p.say("EHLO x", "250", "MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250")
			p.send(send)
			if name == "DATA" {
				p.expect("354")
			}
			p.send("From: a@example.com\r\n")
			p.raw.(*net.TCPConn).CloseWrite()
			p.check("closed")
			if n := len(r.submit.submissions()); n != 0 {
				t.Errorf("%d messages were submitted", n)
			}
		})
	}
}
