package upstream_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/cmd/postern/demo/sink"
	"postern/relay/upstream"
)

// certificate returns one for 127.0.0.1 and 192.0.2.1, and who trusts it.
var certificate = sync.OnceValues(func() (*tls.Config, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "up.example"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(192, 0, 2, 1)},
		NotBefore:             time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), // clocks in bubbles begin in 2000
		NotAfter:              time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(leaf)

	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, trusted
})

// at scripts a sink for one phase.
func at(phase string, a sink.Action) func(string, string) sink.Action {
	return func(p, _ string) sink.Action {
		if p == phase {
			return a
		}
		return sink.Action{}
	}
}

// TestTLSModes: opportunistic TLS is used where it is offered, required TLS is
// verified, and off is off.
func TestTLSModes(t *testing.T) {
	server, trusted := certificate()
	old := server.Clone()
	old.MaxVersion = tls.VersionTLS11
	const (
		plain = "plain"
		under = "TLS"
	)
	for _, c := range []struct {
		name   string
		mode   upstream.TLSMode
		server *tls.Config // nil: not offered
		script func(string, string) sink.Action
		roots  *x509.CertPool
		want   string // how the message went, or the reply
		says   string // the error
	}{
		{"off, offered", upstream.TLSOff, server, nil, nil, plain, ""},
		{"off, not offered", upstream.TLSOff, nil, nil, nil, plain, ""},
		{"opportunistic, offered by a stranger", upstream.TLSOpportunistic, server, nil, nil, under, ""},
		{"opportunistic, not offered", upstream.TLSOpportunistic, nil, nil, nil, plain, ""},
		{"opportunistic, refused", upstream.TLSOpportunistic, server, at("STARTTLS", sink.Action{Reply: "454 4.7.0 not now"}), nil, plain, ""},
		{"opportunistic, answered with 250", upstream.TLSOpportunistic, server, at("STARTTLS", sink.Action{Reply: "250 what"}), nil, takesNone, "STARTTLS: unexpected reply 250 what"},
		{"opportunistic, too old", upstream.TLSOpportunistic, old, nil, nil, notReachable, "TLS with " + addr},
		{"opportunistic, closed", upstream.TLSOpportunistic, server, at("STARTTLS", sink.Action{Drop: true}), nil, notReachable, "EOF"},
		{"required, trusted", upstream.TLSRequired, server, nil, trusted, under, ""},
		{"required, a stranger", upstream.TLSRequired, server, nil, x509.NewCertPool(), notReachable, "certificate"},
		{"required, not offered", upstream.TLSRequired, nil, nil, trusted, takesNone, "STARTTLS is not offered"},
		{"required, refused", upstream.TLSRequired, server, at("STARTTLS", sink.Action{Reply: "454 4.7.0 not now"}), trusted, takesNone, "STARTTLS: unexpected reply 454 4.7.0 not now"},
		{"required, plain words behind the answer", upstream.TLSRequired, server, at("STARTTLS", sink.Action{Reply: "220 go\r\n250 injected"}), trusted, notReachable, "plain text after the reply to STARTTLS"},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			u := n.sink(t, addr, sink.Config{TLS: c.server, Script: c.script})
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, TLS: c.mode, RootCAs: c.roots})
			out := p.Send(context.Background(), transaction())
			got := sent(out)
			if kept := u.kept(); out.Accepted() && len(kept) == 1 {
				got = plain
				if kept[0].TLS {
					got = under
				}
			}
			if got != c.want {
				t.Errorf("got %s (%v), want %s", got, out.Err, c.want)
			}
			if out.Err != nil && !strings.Contains(out.Err.Error(), c.says) {
				t.Errorf("error %v, want one with %q", out.Err, c.says)
			}
			want := 1
			if out.Err != nil {
				want = 0
			}
			if open.now() != want {
				t.Errorf("%d connections are open, want %d", open.now(), want)
			}
		})
	}
}

// TestGreetingUnderTLS: what was offered before is forgotten.
func TestGreetingUnderTLS(t *testing.T) {
	server, trusted := certificate()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var hellos []string
		u := n.sink(t, addr, sink.Config{TLS: server, Extensions: []string{"SIZE 1000"}, Script: func(phase, line string) sink.Action {
			if phase == "EHLO" {
				if hellos = append(hellos, line); len(hellos) == 1 {
					return sink.Action{Reply: "250-up\r\n250-8BITMIME\r\n250 STARTTLS"}
				}
			}
			return sink.Action{}
		}})
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, TLS: upstream.TLSRequired, RootCAs: trusted})
		if out := p.Send(context.Background(), transaction()); !out.Accepted() {
			t.Fatalf("%+v", out)
		}
		if want := []string{"EHLO gateway.example", "EHLO gateway.example"}; !slices.Equal(hellos, want) {
			t.Errorf("got %q, want %q", hellos, want)
		}
		if p.TakesEightBit() {
			t.Error("an offer in plain text is believed under TLS")
		}
		if kept := u.kept(); len(kept) != 1 || !strings.HasSuffix(kept[0].Mail, " SIZE=46") {
			t.Errorf("got %+v, want SIZE, which is offered under TLS", kept)
		}
	})
}

// TestSilentHandshake is given up like a silent command.
func TestSilentHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.host(addr, func(_ int, command string) string {
			switch command {
			case "EHLO":
				return "250-up\r\n250 STARTTLS"
			case "STARTTLS":
				time.Sleep(4 * time.Minute)
				return "220 go"
			}
			return ""
		})
		p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
		start := time.Now()
		got := sent(p.Send(context.Background(), transaction()))
		if took := time.Since(start); got != notReachable || took != 9*time.Minute {
			t.Errorf("got %s after %v, want %s after 9m", got, took, notReachable)
		}
		if open.now() != 0 {
			t.Errorf("%d connections are open, want none", open.now())
		}
	})
}

// TestPasswordsOverTLS go to another machine only where its certificate is
// verified.
func TestPasswordsOverTLS(t *testing.T) {
	const far = "192.0.2.1:25"
	server, trusted := certificate()
	for _, c := range []struct {
		mode  upstream.TLSMode
		taken bool
	}{{upstream.TLSRequired, true}, {upstream.TLSOpportunistic, false}} {
		run(t, string(c.mode), func(t *testing.T) {
			n := newNetwork()
			n.sink(t, far, sink.Config{TLS: server, Password: "ann:secret"})
			p, _ := n.pool(t, upstream.Config{
				Addrs:    []string{far},
				TLS:      c.mode,
				RootCAs:  trusted,
				Username: "ann",
				Password: "secret",
			})
			if out := p.Send(context.Background(), transaction()); out.Accepted() != c.taken {
				t.Errorf("%+v, want it taken: %v", out, c.taken)
			}
		})
	}
}

// TestProbe sees what mail would see, and leaves nothing open.
func TestProbe(t *testing.T) {
	server, trusted := certificate()
	for _, c := range []struct {
		name     string
		server   *tls.Config
		password string
		user     string
		version  string
		loggedIn bool
		says     string // the error
	}{
		{"plain", nil, "", "", "", false, ""},
		{"TLS", server, "", "", "TLS 1.3", false, ""},
		{"with a login", nil, "ann:secret", "ann", "", true, ""},
		{"with a wrong login", nil, "ann:other", "ann", "", false, "AUTH: unexpected reply 535"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := start(t, sink.Config{TLS: c.server, Password: c.password})
			config := upstream.Config{
				Hostname: "gateway.example",
				Addrs:    []string{"192.0.2.99:25"},
				TLS:      upstream.TLSOpportunistic,
				RootCAs:  trusted,
				Username: c.user,
				Log:      slog.New(slog.DiscardHandler),
			}
			if c.user != "" {
				config.Password = "secret"
			}
			found, err := upstream.Probe(context.Background(), config, u.addr)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) || found.Extensions != nil {
					t.Errorf("got %+v, %v, want an error with %q", found, err, c.says)
				}
				return
			}
			if err != nil || found.TLS != c.version || found.LoggedIn != c.loggedIn || !found.Extensions.Has("SIZE") ||
				found.Extensions["SIZE"] != "104857600" || found.Extensions.Has("XYZ") {
				t.Errorf("got %+v, %v", found, err)
			}
		})
	}
	if found, err := upstream.Probe(context.Background(), upstream.Config{Log: quiet}, "127.0.0.1:1"); err == nil {
		t.Errorf("nobody there: %+v", found)
	}
}

// TestProbeEndsItsSession politely.
func TestProbeEndsItsSession(t *testing.T) {
	quit := make(chan struct{})
	s := newScripted(t, func(_ int, command string) string {
		if command == "QUIT" {
			close(quit)
		}
		return ""
	})
	config := upstream.Config{TLS: upstream.TLSOff, Log: quiet}
	if _, err := upstream.Probe(context.Background(), config, s.addr); err != nil {
		t.Fatal(err)
	}
	select {
	case <-quit:
	case <-time.After(20 * time.Second):
		t.Error("QUIT was not said")
	}
}
