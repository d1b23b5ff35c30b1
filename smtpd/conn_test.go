package smtpd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/smtpd/auth"
	"postern/smtpd/wire"
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

// TestDrain ends a server with an idle session and one in a transaction.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := startServer(t, func(c *setup) { c.Timeouts.Grace = 10 * time.Second }, true)
	idle, busy := dialTLS(t, r), dialTLS(t, r)
	busy.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
	for range 3 {
		busy.reply()
	}
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	if got := idle.reply(); !strings.HasPrefix(got, "421 4.3.2") {
		t.Errorf("the idle session got %q", got)
	}
	busy.send("From: a@example.com\r\n\r\nx\r\n.\r\n")
	if got := busy.reply(); !strings.HasPrefix(got, "250") {
		t.Errorf("the busy session got %q", got)
	}
	<-stopped
	if n := len(r.submit.submissions()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// dialTLS logs in over implicit TLS.
func dialTLS(t *testing.T, r *running) *player {
	t.Helper()
	raw, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	p := &player{t: t, at: "dial", raw: raw, serv: r}
	p.tls()
	p.reply()
	p.send("EHLO x\r\n")
	p.reply()
	p.send("AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n")
	if got := p.reply(); !strings.HasPrefix(got, "235") {
		t.Fatalf("login: %s", got)
	}
	return p
}

// TestCutMessage drops connections in the middle of messages of several sizes,
// among them the sizes of buffers: none is submitted.
func TestCutMessage(t *testing.T) {
	t.Parallel()
	r := startServer(t, func(c *setup) { c.Limits.MaxMessageSize = 1 << 20 }, true)
	for _, n := range []int{0, 1, 100, 4096, 32 << 10, 32<<10 + 1, 200_000} {
		p := dialTLS(t, r)
		p.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
		for range 3 {
			p.reply()
		}
		p.send("From: a@example.com\r\n\r\n" + strings.Repeat("0123456789abcd\r\n", n/16) + "\r\n.")
		p.raw.Close()
	}
	r.stop()
	if n := len(r.submit.submissions()); n != 0 {
		t.Errorf("%d cut messages were submitted", n)
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	r := startServer(t, func(c *setup) { c.Limits.MaxConnectionsPerSource = 2 }, false)
	var ps []*player
	for range 3 {
		raw, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		p := &player{t: t, at: "greeting", raw: raw}
		p.use(raw)
		ps = append(ps, p)
	}
	refused := 0
	for _, p := range ps {
		if strings.HasPrefix(p.reply(), "421 4.7.0") {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d of 3 refused, want 1", refused)
	}
}

// TestDefaultPhases: what promises and the configuration say.
func TestDefaultPhases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config setup
		want   phases
	}{
		{"submission", setup{}, phases{2 * time.Minute, 10 * time.Minute, wire.MessageTimeout{Base: 10 * time.Minute, MinRate: 16 << 10}}},
		{"message_timeout", setup{Config: Config{Timeouts: Timeouts{Message: time.Minute}}}, phases{2 * time.Minute, 10 * time.Minute, wire.MessageTimeout{Base: time.Minute, MinRate: 16 << 10}}},
		{"port 25", setup{Config: Config{Timeouts: Timeouts{Message: time.Hour}}, Reports: &submitter{}}, phases{2 * time.Minute, 10 * time.Minute, wire.MessageTimeout{Base: 10 * time.Minute, MinRate: 0}}},
	} {
		if got := newTestServer(c.config).phases; got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestSessionLine: what a postmaster asks for of a session, and no secret; what
// the client sends cannot make a line of its own.
func TestSessionLine(t *testing.T) {
	t.Parallel()
	out := &lockedBuffer{}
	r := startServer(t, func(c *setup) { c.Log = slog.New(slog.NewTextHandler(out, nil)) }, false)
	p := &player{t: t, at: "session", serv: r}
	p.dial()
	p.check("login")
	p.send("MAIL FROM:<a@example.com>\r\n")
	p.reply()
	p.send("RCPT TO:<b@example.net>\r\n")
	p.reply()
	p.send("DATA\r\n")
	p.reply()
	p.send("From: a@example.com\r\n\r\nx\r\n.\r\n")
	p.reply()
	p.send("EHLO evil\" level=ERROR msg=forged\r\n")
	p.reply()
	p.send("QUIT\r\n")
	p.reply()
	p.raw.Close()
	r.stop()
	line := regexp.MustCompile(`(?m)^.*msg=session .*$`).FindString(out.String())
	for _, want := range []string{
		"time=", "session=", "user=alice", "remote=127.0.0.1:", `tls="TLS 1.3`, "messages=1", "took_seconds=0.",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %q", want, line)
		}
	}
	for _, secret := range []string{"secret", "AGFsaWNlAHNlY3JldA"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
	log := out.String()
	quoted := strings.Contains(log, `level=ERROR msg=forged\"`) || strings.Contains(log, `\" level=ERROR msg=forged`)
	if strings.Contains(log, "level=ERROR msg=forged") && !quoted {
		t.Errorf("a client wrote into the log: %s", out.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
