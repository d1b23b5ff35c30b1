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

// FuzzCommands throws bytes at a session before AUTH: nothing may panic, and
// nothing may be submitted.
func FuzzCommands(f *testing.F) {
	for _, s := range []string{
		"EHLO a\r\nMAIL FROM:<a@b>\r\n",
		"BDAT 5 LAST\r\nabcde",
		"AUTH PLAIN\r\n=\r\n",
		"STARTTLS\r\nx",
		"\x00\r\n",
		"RCPT TO:<\"\\",
		"EHLO a\r\nAUTH LOGIN AAAA\r\nAAAA\r\nMAIL FROM:<\"a b\"@c> SIZE=99999999999 BODY=8BITMIME\r\n",
	} {
		f.Add(s)
	}
	sub := &submitter{}
	users := newClients(f, auth.Rate{}, nil)
	f.Fuzz(func(t *testing.T, in string) {
		s := NewSubmission(Config{
			Hostname: "x",
			Limits:   Limits{MaxMessageSize: 1000},
			Timeouts: Timeouts{Grace: time.Second},
			Log:      quiet,
		}, Submission{Auth: users, Submit: sub})
		l := &oneConn{c: &script{in: []byte(in)}, done: make(chan struct{})}
		if err := s.Serve(context.Background(), l); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if len(sub.submissions()) > 0 {
			t.Fatalf("submitted without AUTH: %q", in)
		}
		nothingHeld(t, s)
	})
}

// oneConn is a listener with one connection, which ends when that is closed.
type oneConn struct {
	c    *script
	done chan struct{}
	used bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.used {
		<-l.done
		return nil, net.ErrClosed
	}
	l.used = true
	return &closing{l.c, l.done}, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

type closing struct {
	*script
	done chan struct{}
}

func (c *closing) Close() error {
	select {
	case <-c.done:
	default:
		close(c.done)
	}
	return nil
}
func (c *closing) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (c *closing) LocalAddr() net.Addr  { return &net.TCPAddr{} }

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
