package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"postern/relay/reply"
	"postern/relay/upstream"
)

// scripted is an upstream that answers by a function of the connection's number,
// from 1 on, and the command. "." is the final dot; an empty answer is the usual
// one, and one that ends with closing is the last of its connection. After silent
// it says nothing more, and after an answer that ends with deaf it does not even
// read.
type scripted struct {
	addr   string
	answer func(conn int, command string) string

	mu    sync.Mutex
	conns int
	lines []string // what came in, without messages
	texts []string // messages, as they came in
	ends  []func() // of connections
}

const (
	closing = "\x00"
	silent  = "\x01"
	deaf    = "\x02"
)

func newScripted(t *testing.T, answer func(conn int, command string) string) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{addr: l.Addr().String(), answer: answer}

	var open sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns++
			n := s.conns
			s.mu.Unlock()

			stop := context.AfterFunc(ctx, func() { c.Close() })
			open.Go(func() {
				defer stop()
				defer c.Close()
				s.serve(c, n)
			})
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); open.Wait() })
	return s
}

func (s *scripted) serve(c net.Conn, n int) {
	usual := map[string]string{
		"greeting": "220 up.example",
		"EHLO":     "250-up.example\r\n250-PIPELINING\r\n250 AUTH PLAIN",
		"AUTH":     "235 in",
		"MAIL":     "250 ok",
		"RCPT":     "250 ok",
		"DATA":     "354 go",
		".":        "250 taken",
		"RSET":     "250 ok",
		"NOOP":     "250 ok",
		"QUIT":     "221 bye",
	}
	over := make(chan struct{})
	answer := func(command string) string {
		answer := s.answer(n, command)
		if answer == "" {
			answer = usual[command]
		}
		text, last := strings.CutSuffix(answer, closing)
		text, stops := strings.CutSuffix(text, deaf)
		if answer == silent {
			_, _ = io.Copy(io.Discard, c)
			return answer
		}
		if text != "" {
			fmt.Fprintf(c, "%s\r\n", text)
		}
		if stops {
			<-over
		}
		if last {
			c.Close()
		}
		return answer
	}
	s.mu.Lock()
	s.ends = append(s.ends, func() { close(over) })
	s.mu.Unlock()

	answer("greeting")
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		line := lines.Text()
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		verb, _, _ := strings.Cut(line, " ")
		if answer := answer(verb); !strings.HasPrefix(answer, "354") {
			continue
		}
		text := ""
		for lines.Scan() && lines.Text() != "." {
			text += lines.Text() + "\n"
		}
		if lines.Text() != "." { // the connection was lost
			return
		}
		s.mu.Lock()
		s.texts = append(s.texts, text)
		s.mu.Unlock()
		answer(".")
	}
}

// hangUp has deaf connections end.
func (s *scripted) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, end := range s.ends {
		end()
	}
	s.ends = nil
}

// commands returns what came in, but for messages.
func (s *scripted) commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// messages returns the messages that came in, to their final dots.
func (s *scripted) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.texts)
}

func (s *scripted) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

func always(command, answer string) func(int, string) string {
	return func(_ int, c string) string {
		if c == command {
			return answer
		}
		return ""
	}
}

// TestSessionRefusals: what an upstream says of us, and not of the message, is
// a temporary error of ours.
func TestSessionRefusals(t *testing.T) {
	const ours = "451 4.4.1 Upstream does not take mail now, try again later"

	for _, c := range []struct{ command, answer, want string }{
		{"MAIL", "530 5.7.0 Must issue a STARTTLS command first", ours},
		{"MAIL", "530 5.7.1 Authentication required", ours},
		{"RCPT", "530 5.7.0 Authentication required", ours},
		{"DATA", "530 5.7.0 Authentication required", ours},
		{".", "530 5.7.0 Authentication required", ours},
		{"MAIL", "534 5.7.9 too weak", ours},
		{"MAIL", "535 5.7.8 no", ours},
		{"MAIL", "538 5.7.11 Encryption required", ours},
		{"MAIL", "500 5.5.2 unknown command", ours},
		{"MAIL", "502 not implemented", ours},
		{"MAIL", "503 5.5.1 EHLO first", ours},
		{"MAIL", "503 5.7.0 AUTH first", ours},
		{"MAIL", "504 5.5.2 EHLO name rejected", ours},
		{"RCPT", "503 5.5.1 need MAIL", ours},
		{"DATA", "502 5.5.1 no", ours},
		{"DATA", "503 5.5.1 no", ours},
		{".", "503 5.5.1 no", ours},

		{"MAIL", "421 4.3.2 closing", "421 4.3.2 closing"},
		{"RCPT", "421 4.3.2 closing", "421 4.3.2 closing"},
		{"MAIL", "501 5.1.7 bad sender", "501 5.1.7 bad sender"},
		{"MAIL", "550 5.7.1 no", "550 5.7.1 no"},
		{"RCPT", "550 5.1.1 unknown", "550 5.1.1 unknown"},
		{"RCPT", "500 5.1.1 unknown", "500 5.1.1 unknown"},
		{"RCPT", "552 5.2.2 mailbox full", "552 5.2.2 mailbox full"},
		{"RCPT", "552 5.5.3 too many recipients", "452 4.5.3 too many recipients"},
		{"RCPT", "452 4.5.3 too many recipients", "452 4.5.3 too many recipients"},
		{".", "554 5.6.0 no", "554 5.6.0 no"},
		{".", "500 5.7.1 spam", "500 5.7.1 spam"},
		{".", "503 5.6.0 content", "503 5.6.0 content"},
	} {
		t.Run(c.command+" "+c.answer, func(t *testing.T) {
			s := newScripted(t, always(c.command, c.answer))
			out := pool(t, upstream.Config{Addrs: []string{s.addr}}).Send(context.Background(), transaction())

			answer := out.Reply
			if out.Err != nil {
				answer = reply.For(out.Err)
			}
			if answer.String() != c.want {
				t.Errorf("got %q, want %q", answer, c.want)
			}
			if errors.Is(out.Err, upstream.ErrSession) != (c.want == ours) || out.Permanent() != (c.want[0] == '5') {
				t.Errorf("got %v, permanent %v", out.Err, out.Permanent())
			}
		})
	}
}

// TestRefusalThenClose: a refusal stands, though the connection is closed before
// the other commands of the flight are answered.
func TestRefusalThenClose(t *testing.T) {
	for _, c := range []struct{ command, answer, want string }{
		{"MAIL", "550 5.7.1 not you", "550 5.7.1 not you"},
		{"RCPT", "550 5.1.1 no such user", "550 5.1.1 no such user"},
		{"RCPT", "450 4.2.1 later", "450 4.2.1 later"},
		{"MAIL", "530 5.7.0 log in", "451 4.4.1 Upstream does not take mail now, try again later"},
	} {
		t.Run(c.command+" "+c.answer, func(t *testing.T) {
			s := newScripted(t, always(c.command, c.answer+closing))
			p := pool(t, upstream.Config{Addrs: []string{s.addr}})

			for range 2 {
				out := p.Send(context.Background(), transaction())
				answer := out.Reply
				if out.Err != nil {
					answer = reply.For(out.Err)
				}
				if got := answer.String(); got != c.want {
					t.Errorf("got %s (%v), want %s", got, out.Err, c.want)
				}
			}
		})
	}
}

// TestSessionRefusedOverOldConnection: an upstream that begins to want a login
// or TLS gets it over a new connection.
func TestSessionRefusedOverOldConnection(t *testing.T) {
	var wanting atomic.Bool
	s := newScripted(t, func(conn int, command string) string {
		if command == "MAIL" && conn == 1 && wanting.Load() {
			return "530 5.7.0 Must issue a STARTTLS command first"
		}
		return ""
	})
	p := pool(t, upstream.Config{Addrs: []string{s.addr}})

	if out := p.Send(context.Background(), transaction()); !out.Accepted() {
		t.Fatalf("%+v", out)
	}
	wanting.Store(true)
	if out := p.Send(context.Background(), transaction()); !out.Accepted() || s.connections() != 2 {
		t.Errorf("%+v over %d connections, want 250 over 2", out, s.connections())
	}
}

// TestRefusedSessionEnds: a connection over which an upstream refused us carries
// no further transaction.
func TestRefusedSessionEnds(t *testing.T) {
	for _, command := range []string{"MAIL", "RCPT", "DATA", "."} {
		var asked atomic.Int32
		s := newScripted(t, func(_ int, c string) string {
			if c != command {
				return ""
			}
			asked.Add(1)
			return "530 5.7.0 log in"
		})
		p := pool(t, upstream.Config{Addrs: []string{s.addr}})

		for range 2 {
			if out := p.Send(context.Background(), transaction()); !errors.Is(out.Err, upstream.ErrSession) {
				t.Errorf("%s: got %+v, want ErrSession", command, out)
			}
		}
		if s.connections() != 2 || asked.Load() != 2 {
			t.Errorf("%s: asked %d times over %d connections, want 2 over 2", command, asked.Load(), s.connections())
		}
	}
}

// TestSessionRefusedByOneOfTwo: another upstream takes what one refuses us.
func TestSessionRefusedByOneOfTwo(t *testing.T) {
	bad := newScripted(t, always("MAIL", "530 5.7.0 no"))
	good := newScripted(t, always("", ""))
	p := pool(t, upstream.Config{Addrs: []string{bad.addr, good.addr}})

	for range 3 {
		if out := p.Send(context.Background(), transaction()); !out.Accepted() || out.Upstream != good.addr {
			t.Errorf("%+v, want 250 of %s", out, good.addr)
		}
	}
}

// TestLoginRefusals: of the answers to a client's credentials only those about
// the credentials are the client's.
func TestLoginRefusals(t *testing.T) {
	for _, c := range []struct {
		answer string
		theirs bool
	}{
		{"535 5.7.8 wrong", true}, {"454 4.7.0 later", true},
		{"538 5.7.11 Encryption required", false}, {"530 5.7.0 STARTTLS first", false}, {"534 5.7.9 too weak", false},
		{"500 5.5.2 unknown", false}, {"502 5.5.1 no", false}, {"503 5.5.1 no", false}, {"504 5.5.4 mechanism", false},
		{"421 4.3.2 shutting down", false}, {"421 4.3.2 shutting down" + closing, false},
	} {
		s := newScripted(t, always("AUTH", c.answer))
		l, answer, err := pool(t, upstream.Config{Addrs: []string{s.addr}}).Login(context.Background(), "u", "p")
		if l != nil || (err == nil) != c.theirs || c.theirs && answer.String() != c.answer {
			t.Errorf("%s: got %v, %v, want it to be the client's: %v", c.answer, answer, err, c.theirs)
		}
		if err != nil && reply.For(err).Enhanced != (reply.EnhancedCode{4, 4, 1}) {
			t.Errorf("%s: %v", c.answer, err)
		}
	}
}

// TestLoginSessionRefused: a transaction over a client's login that the upstream
// no longer knows of is tried over a new one, and then deferred.
func TestLoginSessionRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		refuses int // connections
		taken   bool
	}{{"once", 1, true}, {"always", 100, false}} {
		t.Run(c.name, func(t *testing.T) {
			s := newScripted(t, func(conn int, command string) string {
				if command == "MAIL" && conn <= c.refuses {
					return "530 5.7.0 Authentication required"
				}
				return ""
			})
			l, _, err := pool(t, upstream.Config{Addrs: []string{s.addr}}).Login(context.Background(), "u", "p")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()

			out := l.Send(context.Background(), transaction())
			if out.Accepted() != c.taken || out.Permanent() {
				t.Errorf("got %+v, want it taken: %v", out, c.taken)
			}
		})
	}
}

// TestReplyTextIsClean: nothing of an upstream's text but printable ASCII comes
// in.
func TestReplyTextIsClean(t *testing.T) {
	dirty := "550-5.1.1 no \rsuch\x00 user\r\n550 5.1.1 \x1b[2J\xff" + strings.Repeat("x", 600)
	want := "550 5.1.1 no ?such? user\n?[2J?" + strings.Repeat("x", 495)

	for _, command := range []string{"MAIL", "RCPT", "DATA", "."} {
		s := newScripted(t, always(command, dirty))
		out := pool(t, upstream.Config{Addrs: []string{s.addr}}).Send(context.Background(), transaction())
		if got := out.Reply.String(); got != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}

	for _, command := range []string{"greeting", "EHLO"} {
		s := newScripted(t, always(command, strings.Replace(dirty, "550", "450", -1)))
		out := pool(t, upstream.Config{Addrs: []string{s.addr}}).Send(context.Background(), transaction())
		if out.Err == nil || strings.ContainsFunc(out.Err.Error(), isDirty) {
			t.Errorf("%s: got %+v", command, out)
		}
	}
}

// isDirty reports whether a character must not reach a log or a client.
func isDirty(r rune) bool { return r == utf8.RuneError || r < ' ' && r != '\n' }

// TestManyExtensions: EHLO may offer more than a passed-on reply has lines.
func TestManyExtensions(t *testing.T) {
	answer := "250-up.example\r\n" + strings.Repeat("250-X-NOTHING\r\n", 30) + "250 8BITMIME"
	s := newScripted(t, always("EHLO", answer))
	p := pool(t, upstream.Config{Addrs: []string{s.addr}})

	if err := p.Ping(context.Background()); err != nil || !p.TakesEightBit() {
		t.Errorf("%v, 8BITMIME %v", err, p.TakesEightBit())
	}
}

// TestContextOver: a transaction that nobody waits for any more costs no
// connection, and no upstream its good name.
func TestContextOver(t *testing.T) {
	s := newScripted(t, always("", ""))
	p := pool(t, upstream.Config{Addrs: []string{s.addr}})
	if out := p.Send(context.Background(), transaction()); !out.Accepted() {
		t.Fatalf("%+v", out)
	}

	over, cancel := context.WithCancel(context.Background())
	cancel()
	for range 3 {
		out := p.Send(over, transaction())
		if reply.For(out.Err).Enhanced != (reply.EnhancedCode{4, 4, 1}) {
			t.Errorf("got %+v, want 4.4.1", out)
		}
	}

	if out := p.Send(context.Background(), transaction()); !out.Accepted() || s.connections() != 1 {
		t.Errorf("%+v over %d connections, want 250 over 1", out, s.connections())
	}
}

// TestDialGivenUp: a caller that goes away while a connection is opened says
// nothing of the upstream.
func TestDialGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	release := make(chan struct{})
	slow := newScripted(t, func(conn int, command string) string {
		if command == "greeting" && conn == 1 {
			cancel()
			<-release
		}
		return ""
	})
	p := pool(t, upstream.Config{Addrs: []string{slow.addr}})

	if out := p.Send(ctx, transaction()); out.Accepted() {
		t.Fatalf("%+v without a greeting", out)
	}
	close(release)

	p.Check(context.Background()) // dials hosts that failed
	if out := p.Send(context.Background(), transaction()); !out.Accepted() || slow.connections() != 2 {
		t.Errorf("%+v over %d connections, want 250 over 2", out, slow.connections())
	}
}

// TestPingUnderFullLoad: a probe does not wait for a connection that is busy.
func TestPingUnderFullLoad(t *testing.T) {
	hold, entered := make(chan struct{}), make(chan struct{})
	s := newScripted(t, func(conn int, command string) string {
		if command == "." {
			close(entered)
			<-hold
		}
		return ""
	})
	p := pool(t, upstream.Config{Addrs: []string{s.addr}, MaxConnections: 1})

	done := make(chan upstream.Outcome, 1)
	go func() { done <- p.Send(context.Background(), transaction()) }()
	<-entered

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := p.Ping(ctx); err != nil {
		t.Errorf("all connections are busy, and Ping says %v", err)
	}

	close(hold)
	if out := <-done; !out.Accepted() {
		t.Errorf("%+v", out)
	}
}

// TestFaultOfOurOwnIsTemporary: a message that must not go out as it is was let
// in by us, and is kept.
func TestFaultOfOurOwnIsTemporary(t *testing.T) {
	for _, msg := range []string{"a\nb\r\n", "a\rb\r\n", "a\x00\r\n"} {
		s := newScripted(t, always("none", ""))
		tr := transaction()
		tr.Message = [][]byte{[]byte(msg)}

		out := pool(t, upstream.Config{Addrs: []string{s.addr}}).Send(context.Background(), tr)
		answer := reply.For(out.Err)
		if out.Err == nil || answer.Code != 451 || out.Accepted() {
			t.Errorf("%q: got %v, %s, want 451", msg, out.Err, answer)
		}
	}
}
