package smtpd

import (
	"net"
	"strings"
	"testing"
	"time"
)

// stopsWithin fails where a server has not stopped long after it should have.
func stopsWithin(t *testing.T, r *running, most time.Duration) {
	t.Helper()
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(most):
		t.Fatalf("the server still runs after %s", most)
	}
}

// TestStopWaitsForNobodyWithoutSession: who has no session has nothing to lose,
// and cannot use up shutdown_grace.
func TestStopWaitsForNobodyWithoutSession(t *testing.T) {
	for _, c := range []struct {
		name     string
		option   string // empty: none
		implicit bool
		do       func(p *player)
		last     string // what the client hears; empty: nothing
	}{
		{"silent", "", false, func(p *player) { p.expect("220") }, "421 4.3.2"},
		{"silent, implicit TLS", "", true, func(p *player) {}, ""},
		{"after TLS", "", true, func(p *player) { p.tls(); p.expect("220") }, "421 4.3.2"},
		{"half a command", "", false, func(p *player) { p.expect("220"); p.send("EHL") }, "421 4.3.2"},
		{"STARTTLS without a handshake", "", false, func(p *player) {
			p.expect("220")
			p.say("EHLO x", "250", "STARTTLS", "220")
		}, ""},
		{"without a PROXY header", "proxy", false, func(p *player) {}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := startServer(t, func(conf *Config) {
				conf.Grace = time.Hour
				if c.option != "" {
					options[c.option](conf)
				}
			}, c.implicit)
			p := &player{t: t, at: c.name, serv: r}
			p.dial()
			defer p.raw.Close()
			c.do(p)

			stopsWithin(t, r, 8*time.Second) // less than a proxy may take for its header
			if c.last != "" {
				p.expect(c.last)
			}
			p.check("closed")
		})
	}
}

// TestStopDoesNotWaitForReaders: a client that does not read its replies is cut
// off with the others at the end of the grace.
func TestStopDoesNotWaitForReaders(t *testing.T) {
	r := startServer(t, func(c *Config) { c.Grace = time.Millisecond }, true)
	p := dialTLS(t, r)
	p.raw.(*net.TCPConn).SetReadBuffer(4096)
	for many := strings.Repeat("NOOP\r\n", 10000); ; {
		p.c.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := p.c.Write([]byte(many)); err != nil {
			break // the server writes, and waits
		}
	}

	stopsWithin(t, r, writeTimeout/2)
}
