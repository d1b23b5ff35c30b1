package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBindingsHaveTheirRoom: each address by its key, with the bound on its
// connections; 0: its server has one of its own.
func TestBindingsHaveTheirRoom(t *testing.T) {
	file := everything(t)
	useACME(t, file, "")
	replaceIn(t, file, "[submission]\n", "[submission]\nmax_connections = 100\n") // so that none is cut
	replaceIn(t, file, "[tracking.web]\n", "[tracking.web]\nmax_connections = 9\n")
	g, _ := startGateway(t, file)

	var got []string
	for _, b := range g.bindings {
		room := 0
		if b.room != nil {
			room = cap(b.room.free)
		}
		got = append(got, fmt.Sprintf("%s %s %d", b.key, b.addr, room))
	}
	want := []string{
		"admin.listen 127.0.0.1:0 32",
		"certs.acme_http_listen 127.0.0.3:0 16",
		"certs.acme_tls_listen 127.0.0.2:0 16",
		"submission.listen 127.0.0.1:0 0",
		"submission.listen_tls 127.0.0.1:0 0",
		"reports.listen 127.0.0.1:0 0",
		"tracking.web.listen 127.0.0.1:0 9",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(g.listeners) != len(want)+2 {
		t.Errorf("got %d listeners, want these and two sockets", len(g.listeners))
	}

	g.close()
	cfg := loadConfig(t, file)
	cfg.Certs.ACMEHTTPListen = ""
	cfg.Certs.ACMETLSListen = "127.0.0.1:0" // the tracker's
	cfg.Admin.Listen = ""
	if got := len(startLoaded(t, cfg).bindings); got != 4 {
		t.Errorf("got %d bindings, want those of mail and of the tracker alone", got)
	}
}

// TestTheTrackersListener: PROXY comes before TLS.
func TestTheTrackersListener(t *testing.T) {
	g, _ := startGateway(t, writeConfig(t, ""))
	tr := partOf[*tracker](t, g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := tr.listener(l); got != l {
		t.Errorf("got %T, want the listener itself", got)
	}
	tr.certs = partOf[*certificates](t, g)
	g.cfg.Tracking.Web.TLS = true
	if got := tr.listener(l); fmt.Sprintf("%T", got) != "*tls.listener" {
		t.Errorf("with TLS: got %T", got)
	}
	g.cfg.Tracking.Web.TLS = false
	g.cfg.Tracking.Web.TrustedProxies = loadConfig(t, writeEveryKey(t)).Tracking.Web.TrustedProxies
	if got := tr.listener(l); got == l || fmt.Sprintf("%T", got) == "*tls.listener" {
		t.Errorf("with proxies: got %T", got)
	}
	g.cfg.Tracking.Web.TLS = true
	if got := tr.listener(l); fmt.Sprintf("%T", got) != "*tls.listener" {
		t.Errorf("with both: got %T", got)
	}
}

// TestTheTrackerSpeaksTLS with the protocols of HTTP.
func TestTheTrackerSpeaksTLS(t *testing.T) {
	file := writeConfig(t, "")
	replaceIn(t, file, "[tracking.web]\n", "[tracking.web]\ntls = true\n")
	g, _, _ := serving(t, file)

	c := tls.Client(dial(t, g.Addr("tracking.web.listen")), &tls.Config{
		InsecureSkipVerify: true,
		NextProtos:         []string{"h2"},
	})
	defer c.Close()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if got := c.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Errorf("got protocol %q, want h2", got)
	}
}

// TestServeHTTPDrains: a request under way ends, as far as grace goes.
func TestServeHTTPDrains(t *testing.T) {
	for _, c := range []struct {
		name  string
		grace time.Duration
		whole bool
	}{
		{"with time", patience, true},
		{"without", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			entered, gate := make(chan struct{}), make(chan struct{})
			s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				select {
				case <-gate:
				case <-r.Context().Done():
				}
			})}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- serveHTTP(ctx, s, l, func() time.Duration { return c.grace }) }()
			answered := make(chan error, 1)
			go func() {
				r, err := newClient(nil).Get("http://" + l.Addr().String())
				if err == nil {
					r.Body.Close()
				}
				answered <- err
			}()
			<-entered

			cancel()
			if c.whole {
				close(gate)
			}

			if err := <-answered; (err == nil) != c.whole {
				t.Errorf("got %v, want the answer %v", err, c.whole)
			}
			if err := <-ended; err != nil {
				t.Errorf("got %v, want nil", err)
			}
		})
	}
}

func TestAddrsOfListeners(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := &Gateway{addrs: map[string][]net.Addr{"a.listen": {l.Addr(), l.Addr()}}}
	if got := g.addrsOf("a.listen"); !slices.Equal(got, []string{l.Addr().String(), l.Addr().String()}) {
		t.Errorf("got %v", got)
	}
	if got := g.Addr("a.listen"); got != l.Addr() {
		t.Errorf("got %v, want %v", got, l.Addr())
	}
	if got := g.Addr("b.listen"); got != nil || g.addrsOf("b.listen") != nil {
		t.Errorf("without a listener: got %v, want nil", got)
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
			b := binding{addr: c.addr}
			all := []binding{b}
			for _, o := range c.others {
				all = append(all, binding{addr: o})
			}

			if got := b.network(all, func(string) bool { return false }); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}

	b := binding{addr: "[::]:25"}
	for port, want := range map[string]string{"25": "tcp6", "26": "tcp"} {
		if got := b.network([]binding{b}, func(p string) bool { return p == port }); got != want {
			t.Errorf("beside an inherited IPv4 socket of port %s: got %s, want %s", port, got, want)
		}
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

// inheritable opens an IPv4 wildcard that a process can inherit.
func inheritable(t *testing.T) (f *os.File, port string) {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if f, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })

	return f, port
}

func TestServeTakesAnInheritedWildcard(t *testing.T) {
	f, port := inheritable(t)

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

// TestAnInheritedSocketIsOneKeys: the start fails where two keys want it.
func TestAnInheritedSocketIsOneKeys(t *testing.T) {
	f, port := inheritable(t)
	file := writeConfig(t, "")
	for table, host := range map[string]string{"submission": "127.0.0.1", "tracking.web": "127.0.0.2"} {
		replaceIn(t, file, "["+table+"]\nlisten = [\"127.0.0.1:0\"]",
			fmt.Sprintf("[%s]\nlisten = [%q]", table, net.JoinHostPort(host, port)))
	}

	out, err := serveCommand(file, f).CombinedOutput()

	if want := "tracking.web.listen: "; err == nil || !strings.HasPrefix(string(out), want) ||
		!strings.Contains(string(out), "which submission.listen has taken") {
		t.Errorf("got %v and\n%s\nwant %s that submission.listen has taken it", err, out, want)
	}
}

func TestServeListensOnBothFamilies(t *testing.T) {
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	probe.Close()

	var p *process
	var port string
	for range 10 {
		if _, port, err = net.SplitHostPort(unusedAddr(t)); err != nil {
			t.Fatal(err)
		}
		if p, err = tryListening(t, fmt.Sprintf(`["0.0.0.0:%[1]s", "[::]:%[1]s"]`, port)); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}

	for _, host := range []string{"127.0.0.1", "::1"} {
		if got, err := greeting(net.JoinHostPort(host, port)); got != "220" {
			t.Errorf("%s: got %q, %v, want 220", host, got, err)
		}
	}
	if err := p.stop(t); err != nil {
		t.Errorf("got %v, want status 0", err)
	}
}
