package smtpd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func counterValue(t *testing.T, reg *prometheus.Registry, name, label string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}

	return n
}

func TestConnectionsAboveTheLimitAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*setup)
	}{
		{"submission", func(c *setup) { c.Limits.MaxConnections = 4 }},
		{"port 25", func(c *setup) { c.Limits.MaxConnections, c.Reports = 4, c.Submit.(*submitter) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startServer(t, c.change, false)
			dial := func(source, want string) *player {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
				raw, err := d.Dial("tcp", r.addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { raw.Close() })
				p := &player{t: t, at: "from " + source, raw: raw, serv: r}
				p.use(raw)
				p.expect(want)
				return p
			}

			first := dial("127.0.0.1", "220")
			dial("127.0.0.1", "220")
			dial("127.0.0.1", "220")
			dial("127.0.0.1", "421 4.7.0").check("closed") // one place is left for others
			dial("127.0.0.2", "220")
			dial("127.0.0.3", "421 4.3.2").check("closed")

			first.say("QUIT", "221")
			first.check("closed")
			for tries := 0; ; tries++ { // its place is free in a moment
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.3")}}
				raw, err := d.Dial("tcp", r.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer raw.Close()
				p := &player{t: t, at: "afterwards", raw: raw, serv: r}
				p.use(raw)
				if got := p.reply(); strings.HasPrefix(got, "220") {
					break
				} else if tries > 2000 {
					t.Fatalf("the place is not given back: %s", got)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

func TestMostPerSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ all, want int }{{1, 1}, {2, 1}, {4, 3}, {200, 175}, {10000, 8750}} {
		if got := mostPerSource(c.all); got != c.want {
			t.Errorf("of %d: %d, want %d", c.all, got, c.want)
		}
	}
}

// TestServeEndsWhenStoppedAtTheStart covers a stop that comes before a listener
// is served, where another one has drained the server already.
func TestServeEndsWhenStoppedAtTheStart(t *testing.T) {
	t.Parallel()
	s := newTestServer(setup{Config: Config{Log: slog.New(slog.DiscardHandler)}})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()

	for _, name := range []string{"first", "second"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}

		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, l) }()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("Serve of the %s listener: %v, want none", name, err)
			}
		case <-time.After(30 * time.Second):
			l.Close()
			t.Fatalf("Serve of the %s listener goes on after its context has ended", name)
		}
	}
}

// TestCountedConnGivesBackOnce checks that Close releases once, and returns its error.
func TestCountedConnGivesBackOnce(t *testing.T) {
	t.Parallel()
	given := 0
	c := &countedConn{Conn: brokenConn{}, release: func() { given++ }}
	for range 3 {
		if err := c.Close(); err == nil {
			t.Error("the error of Close was lost")
		}
	}
	if given != 1 {
		t.Errorf("given back %d times, want once", given)
	}
}

// brokenConn fails.
type brokenConn struct{ net.Conn }

func (brokenConn) Close() error { return errors.New("broken") }

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

// TestConnectionsOfASource: as many as may be, and as many again once those
// have gone, however they went.
func TestConnectionsOfASource(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *setup) { c.Limits.MaxConnectionsPerSource = 2 }, false, func(b *bubble) {
		for _, leave := range []func(*caller){
			func(c *caller) { c.say("QUIT", "221 2.0.0 Bye") },
			func(c *caller) { c.c.Close() },
			func(c *caller) { time.Sleep(3 * time.Minute) },
			func(c *caller) { c.say("GET /", "500") },
		} {
			first, second := b.dial(), b.dial()
			first.expect("220")
			second.expect("220")
			refused := b.dial()
			refused.expect("421 4.7.0 Too many connections from your address, try again later")
			if !refused.ended() {
				t.Error("a refused connection is left open")
			}
			leave(first)
			leave(second)
			synctest.Wait()
			nothingHeld(t, b.s)
		}
		if got := b.counted("postern_smtpd_connections_total", "refused"); got != 4 {
			t.Errorf("%v refused connections counted, want 4", got)
		}
		if got := b.counted("postern_smtpd_connections_total", "accepted"); got != 8 {
			t.Errorf("%v accepted connections counted, want 8", got)
		}
		if lines := b.logged("connection refused"); len(lines) != 2 || lines[0]["reply"] == nil || lines[0]["remote"] != "127.0.0.1:1234" {
			t.Errorf("logged %v, want two lines: the third refusal was a minute after the first", lines)
		}
	})
}

// TestRefusalsOverTLSAreMute: a reply in plain text would only be taken for a
// broken handshake. Without TLS the refusal does not wait for its reader.
func TestRefusalsOverTLSAreMute(t *testing.T) {
	t.Parallel()
	few := func(c *setup) { c.Limits.MaxConnectionsPerSource = 1 }
	inBubble(t, few, true, func(b *bubble) {
		first := b.connect("127.0.0.1")
		first.secure()
		first.expect("220")
		refused := b.dial()
		refused.expect()
		if !refused.ended() {
			t.Error("a refused connection is left open")
		}
	})
	inBubble(t, few, false, func(b *bubble) {
		b.dial().expect("220")
		deaf := b.connect("127.0.0.1")
		time.Sleep(time.Second - 1)
		synctest.Wait()
		if deaf.sock.isClosed() {
			t.Error("closed within a second")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !deaf.sock.isClosed() {
			t.Error("a client that does not read its refusal is waited for")
		}
	})
}

func TestSourceAddr(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.0.2.1":               "192.0.2.1",
		"::ffff:192.0.2.1":        "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":    "2001:db8:1:2::",
		"2001:db8:1:3::":          "2001:db8:1:3::",
		"fe80::1%eth0":            "fe80::",
		"2001:db8:1:2:8000::":     "2001:db8:1:2::",
		"2001:db8:1:8002:8000::1": "2001:db8:1:8002::",
	} {
		if got := sourceAddr(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
	if got := sourceOf(&unixAddr); got.IsValid() {
		t.Errorf("a client of no TCP counts as %s, want none", got)
	}
}
