package smtpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay"
	"postern/smtpd/wire"
)

// faultyListener fails before it accepts.
type faultyListener struct {
	net.Listener
	mu     sync.Mutex
	errors []error
}

func (l *faultyListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	if len(l.errors) > 0 {
		err := l.errors[0]
		l.errors = l.errors[1:]
		l.mu.Unlock()
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	l.mu.Unlock()

	return l.Listener.Accept()
}

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

// TestAcceptGoesOn after errors that pass, whatever listeners there are.
func TestAcceptGoesOn(t *testing.T) {
	t.Parallel()
	passing := []error{syscall.EMFILE, syscall.ECONNABORTED}
	for _, c := range []struct {
		name   string
		change func(*setup)
		hello  string
	}{
		{"plain", func(*setup) {}, ""},
		{"behind a proxy", options["proxy"], "PROXY TCP4 192.0.2.7 192.0.2.1 1234 587\r\n"},
		{"port 25", options["reports"], ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			out := &lockedBuffer{}
			config := setup{
				Config: Config{
					Hostname: "x.example",
					Log:      slog.New(slog.NewTextHandler(out, nil)),
					Metrics:  reg,
				},
				Submission: Submission{
					Submit: &submitter{},
				},
			}
			c.change(&config)
			raw, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- newTestServer(config).Serve(ctx, &faultyListener{Listener: raw, errors: passing}) }()

			for range 3 {
				conn, err := net.Dial("tcp", raw.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				p := &player{t: t, at: c.name}
				p.use(conn)
				p.send(c.hello)
				p.expect("220 x.example")
				conn.Close()
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := counterValue(t, reg, "postern_smtpd_connections_total", "accept_failed"); got != float64(len(passing)) {
				t.Errorf("%v failures counted, want %d", got, len(passing))
			}
			if n := strings.Count(out.String(), "cannot accept connections"); n != 1 {
				t.Errorf("%d lines in the log, want 1 a minute:\n%s", n, out)
			}
		})
	}
}

// TestAcceptEnds with an error that does not pass.
func TestAcceptEnds(t *testing.T) {
	t.Parallel()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	s := newTestServer(setup{Config: Config{Log: quiet}, Submission: Submission{Submit: &submitter{}}})
	got := s.Serve(context.Background(), &faultyListener{Listener: raw, errors: []error{syscall.EINVAL}})
	if !errors.Is(got, syscall.EINVAL) {
		t.Errorf("got %v, want %v", got, syscall.EINVAL)
	}
}

// TestSteadyListenerStops while it waits.
func TestSteadyListenerStops(t *testing.T) {
	t.Parallel()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var many []error
	for range 1000 {
		many = append(many, syscall.EMFILE)
	}
	failed := make(chan struct{}, len(many))
	l := newSteadyListener(&faultyListener{Listener: raw, errors: many}, func(error) { failed <- struct{}{} })
	done := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	<-failed
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
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

// TestProxiesCountBeforeTheirHeader: connections that say nothing take places
// as others do.
func TestProxiesCountBeforeTheirHeader(t *testing.T) {
	t.Parallel()
	r := startServer(t, func(c *setup) { options["proxy"](c); c.Limits.MaxConnections = 2 }, false)
	for range 2 {
		raw, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
	}
	raw, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	p := &player{t: t, at: "the third", raw: raw, serv: r}
	p.use(raw)
	p.expect("421 4.3.2")
}

func TestMostPerSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ all, want int }{{1, 1}, {2, 1}, {4, 3}, {200, 175}, {10000, 8750}} {
		if got := mostPerSource(c.all); got != c.want {
			t.Errorf("of %d: %d, want %d", c.all, got, c.want)
		}
	}
}

func TestHandshakesOfASourceWait(t *testing.T) {
	t.Parallel()
	h := newHandshakeSlots(2)
	ctx, cancel := context.WithCancel(context.Background())
	var done []func()
	for range 2 {
		end, err := h.acquire(ctx, oneSource)
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, end)
	}
	other, err := h.acquire(ctx, otherSource)
	if err != nil {
		t.Fatalf("another source: %v", err)
	}
	other()

	third := make(chan error, 1)
	go func() {
		end, err := h.acquire(ctx, oneSource)
		if err == nil {
			end()
		}
		third <- err
	}()
	done[0]()
	if err := <-third; err != nil {
		t.Errorf("after one was done: %v", err)
	}

	end, err := h.acquire(ctx, oneSource)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := h.acquire(ctx, oneSource); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	end()
	done[1]()
	if len(h.queues) != 0 {
		t.Errorf("%d sources remembered", len(h.queues))
	}
}

func TestRareLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	r := newRareLog(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	for range 5 {
		r.log(slog.LevelWarn, "too many", "n", 1)
	}
	r.log(slog.LevelWarn, "something else")
	now = now.Add(rareEvery)
	r.log(slog.LevelWarn, "too many", "n", 2)

	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	wants := []string{`msg="too many" n=1`, `msg="something else"`, `msg="too many" n=2 more_since_last_line=4`}
	if len(lines) != len(wants) {
		t.Fatalf("got %d lines, want %d:\n%s", len(lines), len(wants), &out)
	}
	for i, want := range wants {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %d: %s, want %s", i, lines[i], want)
		}
	}
}

func TestLibraryLogIsFormatted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := libraryLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Printf("error handling %v: %s", netip.MustParseAddrPort("192.0.2.1:25"), fmt.Errorf("gone\nforged"))
	l.Printf("panic serving %v: %v\n%s", "192.0.2.1:25", "oh", "stack")
	l.Println("closed", 3)

	for _, want := range []string{
		`level=DEBUG msg=go-smtp text="error handling 192.0.2.1:25: gone\nforged"`,
		`level=ERROR msg=go-smtp text="panic serving 192.0.2.1:25: oh\nstack"`,
		`level=DEBUG msg=go-smtp text="closed 3"`,
	} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, &out)
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

// TestSourceRulesHoldForAddressesWithScopeOrMapped: a network is one, however
// the kernel writes the address of a client.
func TestSourceRulesHoldForAddressesWithScopeOrMapped(t *testing.T) {
	t.Parallel()
	network := netip.MustParsePrefix
	rules := &submission{Submission{
		Directory: directoryOf("local"),
		Sources: []SourceRule{
			{Network: network("fe80::/64"), User: "local"},
			{Network: network("10.0.0.0/8"), User: "local"},
		},
	}}
	p := &proxied{from: []netip.Prefix{network("fe80::/64"), network("10.0.0.0/8")}}

	for addr, want := range map[string]bool{
		"10.1.2.3":         true,
		"::ffff:10.1.2.3":  true,
		"fe80::1":          true,
		"fe80::1%lo":       true,
		"192.0.2.1":        false,
		"::ffff:192.0.2.1": false,
		"fe80:0:0:1::1%lo": false,
		"2001:db8::1":      false,
	} {
		ip := netip.MustParseAddr(addr)
		if got := rules.sourceUser(quiet, ip) != nil; got != want {
			t.Errorf("source rule for %s: %v, want %v", addr, got, want)
		}
		if got := p.trusted(net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 1))); got != want {
			t.Errorf("proxy at %s is trusted: %v, want %v", addr, got, want)
		}
	}
}

// directoryOf is a Directory of one user.
type directoryOf string

func (d directoryOf) Lookup(name string) (relay.User, bool) {
	return relay.User{Name: name}, name == string(d)
}

// TestProxiedDoesNotWaitForHeadersOnceClosed: a stop does not take as long as a
// proxy may for its header.
func TestProxiedDoesNotWaitForHeadersOnceClosed(t *testing.T) {
	t.Parallel()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	accepted := &acceptedListener{Listener: raw, got: make(chan struct{}, 1)}
	l := newProxied(accepted, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		slog.New(slog.NewTextHandler(&log, nil)))

	silent, err := net.Dial("tcp", raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	<-accepted.got
	l.Close()

	if c, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v, %v, want net.ErrClosed", c, err)
	}
	if log.Len() > 0 {
		t.Errorf("Accept has waited for the header of a connection that was to end: %s", &log)
	}
}

// acceptedListener says when it has accepted a connection.
type acceptedListener struct {
	net.Listener
	got chan struct{}
}

func (l *acceptedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.got <- struct{}{}
	}

	return c, err
}

// TestSilentClientsTakeNoHandshakePlaces: a client is served by TLS however
// many of its source are connected and say nothing.
func TestSilentClientsTakeNoHandshakePlaces(t *testing.T) {
	t.Parallel()
	r := startServer(t, nil, true)
	for range 100 {
		raw, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
	}

	p := &player{t: t, at: "handshake", serv: r}
	p.dial()
	defer p.raw.Close()
	p.raw.SetDeadline(time.Now().Add(wire.HandshakeTimeout / 2))
	p.tls()
	p.expect("220")
}

// temporary is an error that says whether it passes.
type temporary bool

func (e temporary) Error() string   { return "temporary" }
func (e temporary) Temporary() bool { return bool(e) }

// closedTemporarily is a closed listener's error, whatever else it says.
type closedTemporarily struct{ temporary }

func (closedTemporarily) Temporary() bool      { return true }
func (closedTemporarily) Is(target error) bool { return target == net.ErrClosed }

// unixAddr is an address of no TCP.
var unixAddr = net.UnixAddr{Name: "x"}

// TestAcceptPauses longer each time, up to a second, and shortly again after a
// success.
func TestAcceptPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		raw := &pipeListener{conns: make(chan net.Conn, 2), done: make(chan struct{})}
		faulty := &faultyListener{Listener: raw}
		var at []time.Duration
		begun := time.Now()
		l := newSteadyListener(faulty, func(error) { at = append(at, time.Since(begun)) })
		for range 2 {
			for range 10 {
				faulty.errors = append(faulty.errors, syscall.EMFILE)
			}
			_, sock := net.Pipe()
			defer sock.Close()
			raw.conns <- sock
			begun, at = time.Now(), nil
			if c, err := l.Accept(); c != sock || err != nil {
				t.Fatalf("got %v, %v; want the connection", c, err)
			}

			at = append(at, time.Since(begun))
			want := time.Duration(0)
			for i, got := range at {
				if got != want {
					t.Errorf("attempt %d was at %s, want %s", i+1, got, want)
				}
				want += min(time.Second, 5*time.Millisecond<<i)
			}
			if len(at) != 11 {
				t.Errorf("%d attempts, want 11", len(at))
			}
		}
	})
}

// failingListener cannot be closed twice, nor well.
type failingListener struct {
	net.Listener
	closed int
}

func (l *failingListener) Close() error {
	l.closed++
	return errors.New("cannot close")
}

// TestSteadyListenerCloses once, and says each time how that went.
func TestSteadyListenerCloses(t *testing.T) {
	t.Parallel()
	inner := &failingListener{}
	l := newSteadyListener(inner, func(error) {})
	for range 2 {
		if err := l.Close(); err == nil || err.Error() != "cannot close" {
			t.Errorf("got %v, want what the listener says", err)
		}
	}
	if inner.closed != 1 {
		t.Errorf("closed %d times, want once", inner.closed)
	}
}

// TestCountedConnGivesBackOnce its place, and says how its end went.
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

// TestProxiedClosesWhatNobodyAccepts any more.
func TestProxiedClosesWhatNobodyAccepts(t *testing.T) {
	t.Parallel()
	p := &proxied{conns: make(chan net.Conn), log: quiet}
	p.open, p.stop = context.WithCancel(t.Context())
	p.stop()
	client, sock := net.Pipe()
	defer client.Close()
	raw := &pipeConn{Conn: sock, from: net.IPv4(127, 0, 0, 1)}
	p.hand(raw)
	if !raw.isClosed() {
		t.Error("the connection was left open")
	}
}

// heldConn is a connection whose address is known when the test says so.
type heldConn struct {
	pipeConn
	known chan struct{}
}

func (c *heldConn) RemoteAddr() net.Addr {
	<-c.known
	return c.pipeConn.RemoteAddr()
}

// TestProxiedWaitsForThoseItReads before it ends.
func TestProxiedWaitsForThoseItReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		raw := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		client, sock := net.Pipe()
		defer client.Close()
		held := &heldConn{pipeConn: pipeConn{Conn: sock, from: net.IPv4(127, 0, 0, 1)}, known: make(chan struct{})}
		raw.conns <- held
		p := newProxied(raw, nil, quiet)
		synctest.Wait()
		p.Close()
		synctest.Wait()
		select {
		case c, ok := <-p.conns:
			t.Errorf("Accept returns %v, %v while a header is read", c, ok)
		default:
		}

		close(held.known)
		synctest.Wait()
		if c, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, %v; want %v", c, err, net.ErrClosed)
		}
		if !held.isClosed() {
			t.Error("the connection was left open")
		}
	})
}
