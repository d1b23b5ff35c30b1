package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"postern/cmd/postern/gateway"
	"postern/cmd/postern/systemd"
)

// fakeSocket is an inherited socket that is not open.
type fakeSocket struct {
	net.Listener
	addr *net.TCPAddr
}

func (f fakeSocket) Addr() net.Addr { return f.addr }
func (f fakeSocket) Close() error   { return nil }

// inherit makes sockets of addresses; one that ends in "!" takes no IPv4.
func inherit(t *testing.T, addrs ...string) *systemd.Inherited {
	t.Helper()
	in := &systemd.Inherited{Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "localhost" {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}, nil
		}
		return nil, errors.New("no such host")
	}}
	for _, a := range addrs {
		text, only := strings.CutSuffix(a, "!")
		in.Add(fakeSocket{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))})
		in.Sockets[len(in.Sockets)-1].V6only = only
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
				text := strings.Join(gateway.Addrs(taken), " ")
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

func TestNetworkOfAnAddress(t *testing.T) {
	for _, c := range []struct {
		addr   string
		others []string
		want   string
	}{
		{"0.0.0.0:25", nil, "tcp4"},
		{"127.0.0.1:25", nil, "tcp4"},
		{"[::ffff:127.0.0.1]:25", nil, "tcp4"},
		{"[::1]:25", nil, "tcp6"},
		{"[::]:25", nil, "tcp"},
		{"[::]:25", []string{"0.0.0.0:26"}, "tcp"},
		{"[::]:25", []string{"0.0.0.0:25"}, "tcp6"},
		{"[::]:25", []string{"127.0.0.1:25"}, "tcp6"},
		{"[::]:0", []string{"0.0.0.0:0"}, "tcp"},
		{":25", nil, "tcp"},
		{":25", []string{"0.0.0.0:25"}, "tcp6"},
		{"localhost:25", nil, "tcp"},
	} {
		t.Run(c.addr+strings.Join(c.others, " "), func(t *testing.T) {
			b := gateway.Binding{Addr: c.addr}
			all := []gateway.Binding{b}
			for _, o := range c.others {
				all = append(all, gateway.Binding{Addr: o})
			}

			if got := b.Network(all, &systemd.Inherited{}); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// greeting is the first line that a server sends.
func greeting(addr string) (string, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()

	b := make([]byte, 3)
	_, err = io.ReadFull(c, b)
	return string(b), err
}

// startListening starts `serve` with these addresses for submission, and
// inherited sockets.
func startListening(t *testing.T, listen string, sockets ...*os.File) *process {
	t.Helper()
	p := &process{admin: unusedAddr(t)}
	file := writeConfig(t, "", fmt.Sprintf("[admin]\nlisten = %q\n", p.admin))
	replaceIn(t, file, "[submission]\nlisten = [\"127.0.0.1:0\"]", "[submission]\nlisten = "+listen)

	// LISTEN_PID is the process's own, which the shell still is.
	p.cmd = exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, os.Args[0], file)
	p.cmd.Env = append(os.Environ(), asMain+"=1", fmt.Sprint("LISTEN_FDS=", len(sockets)))
	p.cmd.ExtraFiles = sockets
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.waitFor(t, "the health check", func() bool {
		_, err := p.get("/healthz")
		return err == nil
	})
	return p
}

func TestServeTakesAnInheritedWildcard(t *testing.T) {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()

	p := startListening(t, fmt.Sprintf(`["127.0.0.1:%[1]s", "127.0.0.2:%[1]s"]`, port), f)
	f.Close()

	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		if got, err := greeting(net.JoinHostPort(host, port)); got != "220" {
			t.Errorf("%s: got %q, %v, want 220", host, got, err)
		}
	}
	if err := p.stop(t); err != nil {
		t.Errorf("got %v, want status 0", err)
	}
}

func TestServeListensOnBothFamilies(t *testing.T) {
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	probe.Close()
	_, port, err := net.SplitHostPort(unusedAddr(t))
	if err != nil {
		t.Fatal(err)
	}

	p := startListening(t, fmt.Sprintf(`["0.0.0.0:%[1]s", "[::]:%[1]s"]`, port))

	for _, host := range []string{"127.0.0.1", "::1"} {
		if got, err := greeting(net.JoinHostPort(host, port)); got != "220" {
			t.Errorf("%s: got %q, %v, want 220", host, got, err)
		}
	}
	if err := p.stop(t); err != nil {
		t.Errorf("got %v, want status 0", err)
	}
}
