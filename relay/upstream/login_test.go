package upstream_test

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/reply"
	"postern/relay/upstream"
)

// TestMechanisms: PLAIN where it is offered, else LOGIN, in whatever letters.
func TestMechanisms(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	plain := []string{"AUTH PLAIN " + b64("\x00ann\x00secret")}
	login := []string{"AUTH LOGIN", b64("ann"), b64("secret")}
	const refused = "451 4.4.1 Upstream does not take mail now, try again later"
	for _, c := range []struct {
		name, offer string
		answers     map[string]string
		said        []string
		want        string
	}{
		{"PLAIN", "AUTH PLAIN", nil, plain, "250 taken"},
		{"lower case", "auth login plain", nil, plain, "250 taken"},
		{"LOGIN", "AUTH LOGIN", map[string]string{"AUTH": "334 VXNlcm5hbWU6", b64("ann"): "334", b64("secret"): "235"}, login, "250 taken"},
		{"LOGIN refused at once", "AUTH LOGIN", map[string]string{"AUTH": "535 no"}, login[:1], refused},
		{"LOGIN refused at the user", "AUTH LOGIN", map[string]string{"AUTH": "334 x", b64("ann"): "535 no"}, login[:2], refused},
		{"LOGIN done after the user", "AUTH LOGIN", map[string]string{"AUTH": "334 x", b64("ann"): "235 in"}, login[:2], "250 taken"},
		{"LOGIN closed", "AUTH LOGIN", map[string]string{"AUTH": "334 x", b64("ann"): closing}, login[:2], notReachable},
		{"neither", "AUTH XPLAIN PLAINX", nil, nil, refused},
		{"none", "8BITMIME", nil, nil, refused},
		{"PLAIN refused", "AUTH PLAIN", map[string]string{"AUTH": "535 5.7.8 no"}, plain, refused},
		{"PLAIN answered with 250", "AUTH PLAIN", map[string]string{"AUTH": "250 ok"}, plain, refused},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, func(_ int, command string) string {
				if command == "EHLO" {
					return "250-up\r\n250 " + c.offer
				}
				return c.answers[command]
			})
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, Username: "ann", Password: "secret"})
			out := p.Send(context.Background(), transaction())
			if got := sent(out); got != c.want {
				t.Errorf("got %s (%v), want %s", got, out.Err, c.want)
			}
			if got := s.commands()[1:]; !slices.Equal(got[:min(len(got), len(c.said))], c.said) {
				t.Errorf("said %q, want %q", got, c.said)
			}
			const without = "EHLO answered 250 without AUTH PLAIN or LOGIN"
			if c.said == nil && (out.Err == nil || !strings.Contains(out.Err.Error(), without)) {
				t.Errorf("error %v, want one with %q", out.Err, without)
			}
			mechs, known := p.Mechanisms()
			params, _ := strings.CutPrefix(strings.ToUpper(c.offer), "AUTH ")
			if want := strings.Fields(params); !known || params != "8BITMIME" && !slices.Equal(mechs, want) {
				t.Errorf("mechanisms %q, known %v; want %q", mechs, known, want)
			}
		})
	}
}

// TestPasswordsStayHere where the connection is neither to this machine nor under
// TLS that was verified.
func TestPasswordsStayHere(t *testing.T) {
	for _, c := range []struct {
		addr string
		says bool
	}{{"127.0.0.1:25", true}, {"[::1]:25", true}, {"192.0.2.1:25", false}} {
		run(t, c.addr, func(t *testing.T) {
			n := newNetwork()
			s := n.host(c.addr, answers(true, nil))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{c.addr}, Username: "ann", Password: "secret"})
			out := p.Send(context.Background(), transaction())
			said := slices.ContainsFunc(s.commands(), func(line string) bool { return strings.HasPrefix(line, "AUTH") })
			if said != c.says || out.Accepted() != c.says {
				t.Errorf("said %v, %+v; want %v", said, out, c.says)
			}
			if !c.says && !strings.Contains(out.Err.Error(), "passwords go only over verified TLS") {
				t.Errorf("error %v", out.Err)
			}
			l, _, err := p.Login(context.Background(), "bob", "other")
			if (err == nil) != c.says || (l != nil) != c.says {
				t.Errorf("a client's login: %v, %v", l, err)
			}
			if l != nil {
				l.Close()
			}
		})
	}
}

// loggedIn returns a client's login.
func loggedIn(t *testing.T, p *upstream.Pool) *upstream.Login {
	t.Helper()
	l, answer, err := p.Login(context.Background(), "ann", "secret")
	if err != nil || answer.Code != 235 {
		t.Fatalf("got %v, %v, want 235", answer, err)
	}

	return l
}

// TestLoginUsesUpConnections: as many messages as configured go over each, and it
// is opened again with the same credentials.
func TestLoginUsesUpConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxMessages: 3, MaxConnections: 1})
		l := loggedIn(t, p)
		for i := range 7 {
			if out := l.Send(context.Background(), transaction()); !out.Accepted() || out.Upstream != addr {
				t.Errorf("%+v", out)
			}
			if want := i/3 + 1; s.connections() != want || open.now() != 1 {
				t.Errorf("message %d: %d connections, %d open; want %d and 1", i, s.connections(), open.now(), want)
			}
		}
		auths := 0
		for _, line := range s.commands() {
			if line == "AUTH PLAIN AGFubgBzZWNyZXQ=" {
				auths++
			}
		}
		if auths != 3 {
			t.Errorf("logged in %d times, want 3", auths)
		}
		l.Close()
		l.Close()
		if open.now() != 0 {
			t.Errorf("%d connections are open after the end, want none", open.now())
		}
		if got := sent(l.Send(context.Background(), transaction())); got != notReachable {
			t.Errorf("after the end: got %s, want %s", got, notReachable)
		}
	})
}

// TestLoginOfABrokenConnection opens a new one for the next transaction.
func TestLoginOfABrokenConnection(t *testing.T) {
	for _, c := range []struct {
		name, phase, answer string
		first               string
		connections         int
	}{
		{"closed at RCPT", "RCPT", closing, wasLost, 2},
		{"closed at the final dot", ".", closing, wasLost, 2},
		{"421 at RCPT", "RCPT", "421 4.3.2 bye", "421 4.3.2 bye", 2},
		{"nonsense", "DATA", "250 what", wasLost, 2},
		{"refused", "RCPT", "550 no", "550 no", 1},
		{"deferred", ".", "450 later", "450 later", 1},
		{"closed at MAIL of the first", "MAIL", closing, "250 taken", 2},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, func(conn int, command string) string {
				switch {
				case command == "EHLO":
					return oneByOne
				case conn == 1 && command == c.phase:
					return c.answer
				}
				return ""
			})
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxConnections: 1})
			l := loggedIn(t, p)
			if got := sent(l.Send(context.Background(), transaction())); got != c.first {
				t.Errorf("first: got %s, want %s", got, c.first)
			}
			if c.connections == 1 {
				s.answer = answers(false, nil)
			}
			if out := l.Send(context.Background(), transaction()); !out.Accepted() {
				t.Errorf("second: %+v", out)
			}
			if s.connections() != c.connections || open.now() != 1 {
				t.Errorf("%d connections, %d open; want %d and 1", s.connections(), open.now(), c.connections)
			}
			l.Close()
		})
	}
}

// TestLoginIsTriedOnceMore over a new connection, and no more often.
func TestLoginIsTriedOnceMore(t *testing.T) {
	for _, c := range []struct {
		name, mail string
		want       string
		tries      int
	}{
		{"closed", closing, notReachable, 2},
		{"refuses us", "530 log in", takesNone, 2},
		{"ends", "421 4.3.2 bye", "421 4.3.2 bye", 1},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, map[string]string{"MAIL": c.mail}))
			reg := prometheus.NewRegistry()
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, Metrics: reg})
			l := loggedIn(t, p)
			out := l.Send(context.Background(), transaction())
			if got := sent(out); got != c.want || s.connections() != c.tries {
				t.Errorf("got %s over %d connections, want %s over %d", got, s.connections(), c.want, c.tries)
			}
			if c.mail == closing && !strings.Contains(out.Err.Error(), addr+": closed before it answered MAIL") {
				t.Errorf("error %v", out.Err)
			}
			l.Close()
		})
	}
}

// TestLoginThatEndedIsStale: 421 to a later transaction's MAIL ends the connection,
// and it goes over a new one.
func TestLoginThatEndedIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mails := 0
		n := newNetwork()
		s := n.host(addr, func(_ int, command string) string {
			if command == "MAIL" {
				if mails++; mails == 2 {
					return "421 4.4.2 idle"
				}
			}
			return ""
		})
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
		l := loggedIn(t, p)
		for range 2 {
			if out := l.Send(context.Background(), transaction()); !out.Accepted() {
				t.Errorf("%+v", out)
			}
		}
		if s.connections() != 2 {
			t.Errorf("%d connections, want 2", s.connections())
		}
		l.Close()
	})
}

// TestLoginGoneBad: credentials that are no longer taken when the connection has to
// be opened again are no refusal of the message.
func TestLoginGoneBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.host(addr, func(conn int, command string) string {
			switch {
			case command == "RCPT" && conn == 1:
				return closing
			case command == "AUTH" && conn > 1:
				return "535 5.7.8 changed"
			}
			return ""
		})
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
		l := loggedIn(t, p)
		l.Send(context.Background(), transaction())
		out := l.Send(context.Background(), transaction())
		if got := sent(out); got != takesNone || !strings.Contains(out.Err.Error(), "AUTH answered 535 5.7.8 changed") {
			t.Errorf("got %s, %v", got, out.Err)
		}
		if open.now() != 0 {
			t.Errorf("%d connections are open, want none", open.now())
		}
		l.Close()
	})
}

// TestLoginAsksTheNextUpstream where the first is away, and tells of the last.
func TestLoginAsksTheNextUpstream(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  map[string]string
		second map[string]string
		code   int    // of the reply; 0: an error
		says   string // the error
	}{
		{"away, well", map[string]string{"greeting": closing}, map[string]string{}, 235, ""},
		{"busy, well", map[string]string{"AUTH": "421 4.3.2 busy"}, map[string]string{}, 235, ""},
		{"wants TLS, well", map[string]string{"AUTH": "538 5.7.11 TLS"}, map[string]string{}, 235, ""},
		{"refuses, well", map[string]string{"AUTH": "535 no"}, map[string]string{}, 535, ""},
		{"away, refuses", map[string]string{"greeting": closing}, map[string]string{"AUTH": "535 no"}, 535, ""},
		{"away, busy", map[string]string{"greeting": closing}, map[string]string{"AUTH": "421 no"}, 0, second + ": "},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			n.host(addr, answers(true, c.first))
			n.host(second, answers(true, c.second))
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr, second}, MaxConnections: 1})
			for range 3 {
				l, answer, err := p.Login(context.Background(), "ann", "secret")
				if answer.Code != c.code || (err == nil) != (c.code != 0) || (l != nil) != (c.code == 235) {
					t.Errorf("got %v, %v, %v; want %d", l, answer, err, c.code)
				}
				if err != nil && (!strings.Contains(err.Error(), c.says) || reply.For(err).Code != 451) {
					t.Errorf("error %v, want one with %q and 451", err, c.says)
				}
				if l != nil {
					l.Close()
				}
				if open.now() != 0 {
					t.Errorf("%d connections are open, want none", open.now())
				}
				time.Sleep(time.Minute)
			}
		})
	}
}

// TestLoginTakesASlot of the upstream's connections, until its end.
func TestLoginTakesASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.host(addr, answers(true, nil))
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, MaxConnections: 1})
		l := loggedIn(t, p)
		if got := sent(p.Send(context.Background(), transaction())); got != allBusy {
			t.Errorf("got %s, want %s", got, allBusy)
		}
		_, _, err := p.Login(context.Background(), "bob", "other")
		if err == nil || reply.For(err).String() != allBusy {
			t.Errorf("a second login: %v, want %s", err, allBusy)
		}
		l.Close()
		if out := p.Send(context.Background(), transaction()); !out.Accepted() {
			t.Errorf("%+v", out)
		}
		// An idle connection of the gateway's own makes way.
		l = loggedIn(t, p)
		l.Close()
	})
}

// TestLoginWithAContextThatIsOver costs nothing.
func TestLoginWithAContextThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
		l := loggedIn(t, p)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if got := sent(l.Send(ctx, transaction())); got != notReachable {
			t.Errorf("got %s, want %s", got, notReachable)
		}
		if out := l.Send(context.Background(), transaction()); !out.Accepted() || s.connections() != 1 {
			t.Errorf("%+v over %d connections, want 1", out, s.connections())
		}
		l.Close()
	})
}
