package upstream

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"postern/relay/reply"
)

// maxPause limits how long an upstream that cannot be reached is avoided.
const maxPause = 30 * time.Second

// dialResult is the label "result" of the metric that counts dials.
type dialResult string

const (
	dialOK      dialResult = "ok"
	dialFailed  dialResult = "failed"
	dialGivenUp dialResult = "given_up" // the caller's context ended first
)

// dialHost opens a connection to a host and records the result.
func (p *Pool) dialHost(ctx context.Context, h *host, login func(*conn) error) (*conn, error) {
	start := time.Now()
	c, err := p.dialAddr(ctx, h.addr, login)

	result := dialOK
	switch {
	case err == nil:
	case ctx.Err() != nil && time.Since(start) < p.cfg.Timeouts.Connect:
		result = dialGivenUp
	default:
		result = dialFailed
	}
	p.recordDial(h, c, result)

	return c, err
}

// recordDial records the result of a dial. A host that failed is tried after
// the others until its pause, which doubles up to maxPause, is over.
func (p *Pool) recordDial(h *host, c *conn, result dialResult) {
	p.mu.Lock()
	switch result {
	case dialOK:
		h.failures = 0
		h.notBefore = time.Time{}
		h.lastHealthy = time.Now()
		h.reached = true
		h.sevenBit = !c.ext.Has("8BITMIME")
	case dialFailed:
		h.failures++
		pause := time.Second << min(h.failures-1, 5)
		h.notBefore = time.Now().Add(min(pause, maxPause))
	}
	p.mu.Unlock()

	p.dials.WithLabelValues(h.addr, string(result)).Inc()
}

// dialAddr opens a connection and makes it ready for mail: greeting, EHLO,
// STARTTLS, EHLO, login.
func (p *Pool) dialAddr(ctx context.Context, addr string, login func(*conn) error) (*conn, error) {
	raw, err := p.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, unreachable(err)
	}

	c := &conn{
		raw:      raw,
		timeouts: p.cfg.Timeouts,
		born:     time.Now(),
		transcript: transcript{
			log:        p.cfg.Log,
			upstream:   addr,
			connection: raw.LocalAddr().String(),
		},
	}
	c.setBuffers(raw)

	// The end of ctx interrupts a peer that is silent.
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(aLongTimeAgo) })
	defer stop()

	if err := p.setup(c, addr, login); err != nil {
		raw.Close()
		var f *reply.Fault
		if !errors.As(err, &f) {
			err = unreachable(err)
		}
		return nil, err
	}

	if !stop() {
		raw.Close()
		return nil, unreachable(ctx.Err())
	}

	return c, nil
}

// setup takes a new connection from the greeting to the login.
func (p *Pool) setup(c *conn, addr string, login func(*conn) error) error {
	c.raw.SetDeadline(time.Now().Add(c.timeouts.Greeting))
	r, err := c.readReply()
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return unexpected("greeting", r)
	}

	if err := p.ehlo(c); err != nil {
		return err
	}
	if err := p.startTLS(c, addr); err != nil {
		return err
	}

	p.mu.Lock()
	p.mechanisms = c.ext["AUTH"]
	p.mechanismsKnown = true
	p.mu.Unlock()

	return login(c)
}

// ehlo sends EHLO, and HELO to an upstream that does not know EHLO (RFC 5321
// section 3.2).
func (p *Pool) ehlo(c *conn) error {
	hello := "EHLO " + p.cfg.Hostname
	c.transcript.command(hello)
	if err := c.writeCommand(hello); err != nil {
		return err
	}

	// Not readReply: there may be more extensions than a cleaned reply has lines.
	r, err := c.readLines()
	if err != nil {
		return err
	}

	c.ext = Extensions{}
	if r.Code == 250 {
		c.ext = parseExtensions(r.Text)
		return nil
	}
	if r.Code/100 != 5 {
		return unexpected("EHLO", r)
	}

	r, err = c.command("HELO " + p.cfg.Hostname)
	if err != nil {
		return err
	}
	if r.Code != 250 {
		return unexpected("EHLO", r)
	}

	return nil
}

// parseExtensions parses the text of a reply to EHLO, whose first line is the
// greeting (RFC 5321 section 4.1.1.1).
func parseExtensions(text string) Extensions {
	ext := Extensions{}
	_, lines, more := strings.Cut(text, "\n")
	if !more {
		return ext
	}

	for line := range strings.SplitSeq(lines, "\n") {
		name, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		ext[strings.ToUpper(name)] = params
	}

	return ext
}

// startTLS begins TLS as the configuration says, and sends EHLO again (RFC 3207
// section 4.2).
func (p *Pool) startTLS(c *conn, addr string) error {
	opportunistic := p.cfg.TLS == TLSOpportunistic
	switch {
	case p.cfg.TLS == TLSOff:
		return nil
	case c.ext.Has("STARTTLS"):
	case opportunistic:
		return nil
	default:
		return setupFault(errors.New(`upstream: STARTTLS is not offered, but relay.tls is "required"`))
	}

	r, err := c.command("STARTTLS")
	if err != nil {
		return err
	}
	if r.Code != 220 && opportunistic && r.Code/100 != 2 {
		return nil
	}
	if r.Code != 220 {
		return unexpected("STARTTLS", r)
	}

	// Plain text that was injected must not be read as if it came over TLS.
	if c.r.Buffered() > 0 {
		return errors.New("plain text after the reply to STARTTLS")
	}

	if err := p.handshake(c, addr); err != nil {
		return err
	}

	return p.ehlo(c)
}

// handshake puts a connection under TLS. With opportunistic TLS the certificate
// is not verified, so that it protects against passive attackers only (RFC 7435).
func (p *Pool) handshake(c *conn, addr string) error {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}

	tc := tls.Client(c.raw, &tls.Config{
		ServerName:         name,
		MinVersion:         tls.VersionTLS12,
		RootCAs:            p.cfg.RootCAs,
		InsecureSkipVerify: p.cfg.TLS == TLSOpportunistic,
		ClientSessionCache: p.sessions,
	})
	tc.SetDeadline(time.Now().Add(c.timeouts.Command))
	if err := tc.Handshake(); err != nil {
		return fmt.Errorf("TLS with %s: %w", addr, err)
	}

	c.raw = tc
	c.tls = true
	c.setBuffers(tc)

	return nil
}

// login logs in with the pool's own credentials, if it has any.
func (p *Pool) login(c *conn) error {
	if p.cfg.Username == "" {
		return nil
	}

	r, err := p.auth(c, p.cfg.Username, p.cfg.Password)
	if err == nil && r.Code != 235 {
		err = unexpected("AUTH", r)
	}

	return err
}

// auth logs in with PLAIN, or with LOGIN if PLAIN is not offered, and returns
// the upstream's reply (RFC 4954). It sends passwords only over verified TLS or
// to loopback.
func (p *Pool) auth(c *conn, user, pass string) (reply.Reply, error) {
	verified := c.tls && p.cfg.TLS == TLSRequired
	if !verified && !isLoopback(c.raw.RemoteAddr()) {
		return reply.Reply{}, errors.New("passwords are sent only over verified TLS " +
			"(relay.tls = \"required\") or to loopback")
	}

	mechanisms := " " + strings.ToUpper(c.ext["AUTH"]) + " "
	switch {
	case strings.Contains(mechanisms, " PLAIN "):
		return c.secretCommand("AUTH PLAIN "+b64("\x00"+user+"\x00"+pass), "AUTH PLAIN ***")
	case strings.Contains(mechanisms, " LOGIN "):
		return c.authLogin(user, pass)
	}

	return reply.Reply{}, setupFault(errors.New("upstream: neither AUTH PLAIN nor AUTH LOGIN is offered"))
}

// authLogin logs in with the mechanism LOGIN: user and password, each in reply
// to a challenge. Any other reply is the last.
func (c *conn) authLogin(user, pass string) (reply.Reply, error) {
	r, err := c.command("AUTH LOGIN")
	for _, secret := range []string{user, pass} {
		if err != nil || r.Code/100 != 3 {
			break
		}
		r, err = c.secretCommand(b64(secret), "***")
	}

	return r, err
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func isLoopback(addr net.Addr) bool {
	a, ok := addr.(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// unexpected returns the fault of a reply that refuses a session in a phase.
func unexpected(in phase, r reply.Reply) *reply.Fault {
	r.Text = reply.CleanText(r.Text)

	return setupFault(fmt.Errorf("upstream: %s: unexpected reply %s", in, r))
}

// setupFault returns the fault of a session that cannot be used. It does not
// concern the message, so that it is temporary for the client whatever the
// upstream's code.
func setupFault(err error) *reply.Fault {
	return reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "Upstream does not take mail now, try again later", err)
}

// unreachable returns the error of an upstream that cannot be spoken to.
func unreachable(err error) error {
	return reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "Upstream is not reachable, try again later",
		fmt.Errorf("upstream: %w", err))
}
