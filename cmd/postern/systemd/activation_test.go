package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeSocket is an inherited socket that is not open.
type fakeSocket struct {
	net.Listener
	addr *net.TCPAddr
}

func (f fakeSocket) Addr() net.Addr { return f.addr }

func (f fakeSocket) Close() error { return nil }

// inherit makes sockets of addresses; one that ends in "!" takes no IPv4.
func inherit(t *testing.T, addrs ...string) *Inherited {
	t.Helper()
	in := &Inherited{resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "localhost" {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}, nil
		}
		return nil, errors.New("no such host")
	}}
	for _, a := range addrs {
		text, only := strings.CutSuffix(a, "!")
		in.add(fakeSocket{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))})
		in.sockets[len(in.sockets)-1].v6only = only
	}
	return in
}

func TestInheritedSocketsServeAddresses(t *testing.T) {
	type ask struct{ key, addr string }
	for _, c := range []struct {
		name    string
		sockets []string
		asks    []ask
		taken   []string // by the asks, in order; "-": served by one that was taken; "": to be opened
		rest    []string
		fails   string
	}{
		{"none", nil, []ask{{"a", "0.0.0.0:25"}}, []string{""}, nil, ""},
		{"the same", []string{"127.0.0.1:25"}, []ask{{"a", "127.0.0.1:25"}}, []string{"127.0.0.1:25"}, nil, ""},
		{"another port", []string{"127.0.0.1:26"}, []ask{{"a", "127.0.0.1:25"}}, []string{""}, []string{"127.0.0.1:26"}, ""},
		{"another host", []string{"127.0.0.2:25"}, []ask{{"a", "127.0.0.1:25"}}, []string{""}, []string{"127.0.0.2:25"}, ""},
		{"wildcard for two", []string{"0.0.0.0:25"}, []ask{{"a", "127.0.0.1:25"}, {"a", "127.0.0.2:25"}}, []string{"0.0.0.0:25", "-"}, nil, ""},
		{"wildcard of both families", []string{"[::]:25"}, []ask{{"a", "127.0.0.1:25"}, {"a", "[::1]:25"}, {"a", "0.0.0.0:25"}, {"a", "[::]:25"}, {"a", ":25"}}, []string{"[::]:25", "-", "-", "-", "-"}, nil, ""},
		{"wildcard of IPv6 alone", []string{"[::]:25!"}, []ask{{"a", "127.0.0.1:25"}, {"a", "[::1]:25"}}, []string{"", "[::]:25"}, nil, ""},
		{"wildcard of IPv4 for IPv6", []string{"0.0.0.0:25"}, []ask{{"a", "[::1]:25"}}, []string{""}, []string{"0.0.0.0:25"}, ""},
		{"the address itself before a wildcard", []string{"0.0.0.0:25", "127.0.0.1:25"}, []ask{{"a", "127.0.0.1:25"}, {"a", "127.0.0.2:25"}}, []string{"127.0.0.1:25", "0.0.0.0:25"}, nil, ""},
		{"name", []string{"127.0.0.1:25"}, []ask{{"a", "localhost:25"}}, []string{"127.0.0.1:25"}, nil, ""},
		{"name of two addresses", []string{"127.0.0.1:25", "[::1]:25"}, []ask{{"a", "localhost:25"}}, []string{"127.0.0.1:25 [::1]:25"}, nil, ""},
		{"name that is not found", []string{"127.0.0.1:25"}, []ask{{"a", "nowhere:25"}}, nil, nil, "no such host"},
		{"name on another port", []string{"127.0.0.1:25"}, []ask{{"a", "nowhere:26"}}, []string{""}, []string{"127.0.0.1:25"}, ""},
		{"several addresses for a wildcard", []string{"127.0.0.1:25", "127.0.0.2:25", "[::1]:25"}, []ask{{"a", "0.0.0.0:25"}}, []string{"127.0.0.1:25 127.0.0.2:25"}, []string{"[::1]:25"}, ""},
		{"mapped address", []string{"127.0.0.1:25"}, []ask{{"a", "[::ffff:127.0.0.1]:25"}}, []string{"127.0.0.1:25"}, nil, ""},
		{"one for two keys", []string{"0.0.0.0:25"}, []ask{{"a", "127.0.0.1:25"}, {"b", "127.0.0.2:25"}}, []string{"0.0.0.0:25"}, nil, "which a has taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := inherit(t, c.sockets...)

			var got []string
			var failed error
			for _, a := range c.asks {
				taken, served, err := in.Take(a.key, a.addr)
				if err != nil {
					failed = err
					break
				}
				text := strings.Join(addrs(taken), " ")
				if text == "" && served {
					text = "-"
				}
				got = append(got, text)
			}

			if c.fails != "" {
				if failed == nil || !strings.Contains(failed.Error(), c.fails) {
					t.Errorf("got %v, want an error with %q", failed, c.fails)
				}
				return
			}
			if failed != nil || !slices.Equal(got, c.taken) {
				t.Errorf("got %q, %v, want %q", got, failed, c.taken)
			}
			if rest := in.CloseRest(); !slices.Equal(rest, c.rest) {
				t.Errorf("got %q closed, want %q", rest, c.rest)
			}
		})
	}
}

func TestWatchdogHearsTwiceInItsTime(t *testing.T) {
	name, read := manager(t)
	n := &Notifier{socket: name, watchdog: 2 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.ServeWatchdog(ctx, func() error { return nil }, slog.New(slog.DiscardHandler))
	}()
	for range 2 {
		if got := read(); got != "WATCHDOG=1" {
			t.Errorf("got %q, want WATCHDOG=1", got)
		}
	}
	cancel()
	<-done
}

// TestWithoutAServiceManagerNothingIsSent.
func TestWithoutAServiceManagerNothingIsSent(t *testing.T) {
	var none *Notifier
	none.Send("READY=1") // would panic
	(&Notifier{}).Send("READY=1")
	(&Notifier{socket: filepath.Join(t.TempDir(), "nowhere")}).Send("READY=1")

	// Where no watchdog is set, what is stuck is logged all the same.
	var log bytes.Buffer
	n := &Notifier{}
	if !n.beat(errors.New("stuck"), false, slog.New(slog.NewTextHandler(&log, nil))) || !strings.Contains(log.String(), "stuck") {
		t.Errorf("got %q, want what is stuck", log.String())
	}
	name, read := manager(t)
	n.socket = name
	n.beat(nil, false, slog.New(slog.DiscardHandler))
	n.Send("MARK=1")
	if got := read(); got != "MARK=1" {
		t.Errorf("got %q, want no sign of life without a watchdog", got)
	}
}

func TestInheritedSocketsOfAnotherProcessAreNotTaken(t *testing.T) {
	for name, env := range map[string][2]string{
		"another process": {"1", "1"},
		"no number":       {fmt.Sprint(os.Getpid()), "x"},
		"nothing":         {"", ""},
		"none":            {fmt.Sprint(os.Getpid()), "0"},
	} {
		t.Setenv("LISTEN_PID", env[0])
		t.Setenv("LISTEN_FDS", env[1])
		t.Setenv("LISTEN_FDNAMES", "x")
		in := InheritListeners()
		if len(in.sockets) != 0 || in.resolve == nil {
			t.Errorf("%s: got %v, want none", name, in.sockets)
		}
		for _, key := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			if _, ok := os.LookupEnv(key); ok {
				t.Errorf("%s: %s is still set, for programs that this one starts", name, key)
			}
		}
	}
	if ips, err := lookup(t.Context(), "127.0.0.1"); err != nil || len(ips) != 1 {
		t.Errorf("got %v, %v, want the address", ips, err)
	}
}

func TestAddressesThatInheritedSocketsCannotServe(t *testing.T) {
	in := inherit(t, "127.0.0.1:25")
	for _, addr := range []string{"127.0.0.1", "127.0.0.1:smtp", "127.0.0.1:65536"} {
		if taken, served, err := in.Take("a", addr); err == nil || served || len(taken) != 0 {
			t.Errorf("%s: got %v, %v, %v, want an error", addr, taken, served, err)
		}
	}
	if in.TakesIPv4("25") {
		t.Error("got that port 25 is taken, want not before a key has it")
	}
	if _, _, err := in.Take("a", "127.0.0.1:25"); err != nil {
		t.Fatal(err)
	}
	if !in.TakesIPv4("25") || in.TakesIPv4("26") {
		t.Error("want port 25 taken, and 26 not")
	}
	six := inherit(t, "[::1]:25")
	if _, _, err := six.Take("a", "[::1]:25"); err != nil || six.TakesIPv4("25") {
		t.Errorf("got %v, want an IPv6 socket not to be an IPv4 one", err)
	}
}

func TestV6OnlyIsReadOfTheSocket(t *testing.T) {
	for network, want := range map[string]bool{"tcp6": true, "tcp": false, "tcp4": false} {
		addr := "[::]:0"
		if network == "tcp4" {
			addr = "0.0.0.0:0"
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Skip("no IPv6 here:", err)
		}
		in := &Inherited{}
		in.add(l)
		if got := in.sockets[0].v6only; got != want {
			t.Errorf("%s: got %v, want %v", network, got, want)
		}
		if got := in.sockets[0].at.Port(); int(got) != l.Addr().(*net.TCPAddr).Port {
			t.Errorf("%s: got port %d", network, got)
		}
		if got := in.CloseRest(); len(got) != 1 {
			t.Errorf("%s: got %v closed, want it", network, got)
		}
		if _, err := l.Accept(); err == nil {
			t.Errorf("%s: still open", network)
		}
	}
	if isV6Only(fakeSocket{}) {
		t.Error("a fake socket is IPv6 alone")
	}
}

func addrs(list []net.Listener) []string {
	var out []string
	for _, l := range list {
		out = append(out, l.Addr().String())
	}

	return out
}
