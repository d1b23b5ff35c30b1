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

// setupError is a refusal before any mail command: never the message's fault,
// so whatever the code it is temporary for the client.
func setupError(phase string, r reply.Reply) *reply.Fault {
	r.Text = reply.CleanText(r.Text)

	return &reply.Fault{
		Class: reply.Temporary,
		Err:   fmt.Errorf("upstream: %s answered %s", phase, r),
		Reply: reply.Reply{
			Code:     451,
			Enhanced: reply.EnhancedCode{4, 4, 1},
			Text:     "Upstream does not take mail now, try again later",
		},
	}
}

// login logs in with the pool's own credentials, where it has any.
func (p *Pool) login(c *conn) error {
	if p.c.Username == "" {
		return nil
	}

	r, err := p.auth(c, p.c.Username, p.c.Password)
	if err == nil && r.Code != 235 {
		err = setupError("AUTH", r)
	}

	return err
}

// dialAs opens a connection: greeting, EHLO, STARTTLS, EHLO, login.
func (p *Pool) dialAs(ctx context.Context, addr string, login func(*conn) error) (*conn, error) {
	raw, err := p.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, unreachable(err)
	}

	c := &conn{
		raw:  raw,
		t:    p.c.Timeouts,
		born: time.Now(),
		said: transcript{
			log:        p.c.Log,
			upstream:   addr,
			connection: raw.LocalAddr().String(),
		},
	}
	c.buffers(raw)

	// A cancelled caller must not wait for a peer that says nothing.
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
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

func unreachable(err error) error {
	return reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "Upstream is not reachable, try again later",
		fmt.Errorf("upstream: %w", err))
}

func (p *Pool) setup(c *conn, addr string, login func(*conn) error) error {
	c.raw.SetDeadline(time.Now().Add(c.t.Greeting))
	r, err := c.readReply()
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return setupError("greeting", r)
	}

	if err := p.ehlo(c); err != nil {
		return err
	}
	if err := p.startTLS(c, addr); err != nil {
		return err
	}

	p.mu.Lock()
	p.mechanisms, p.spoken = c.ext["AUTH"], true
	p.mu.Unlock()

	return login(c)
}

func (p *Pool) ehlo(c *conn) error {
	hello := "EHLO " + p.c.Hostname
	c.said.command(hello)
	if err := c.writeCommand(hello); err != nil {
		return err
	}
	r, err := c.readLines() // extensions may be many
	if err != nil {
		return err
	}

	c.ext = Extensions{}
	if r.Code == 250 {
		for i, line := range strings.Split(r.Text, "\n") {
			if i > 0 { // the first line greets
				name, params, _ := strings.Cut(strings.TrimSpace(line), " ")
				c.ext[strings.ToUpper(name)] = params
			}
		}
		return nil
	}

	if r.Code/100 == 5 {
		r, err = c.command("HELO " + p.c.Hostname)
		if err != nil {
			return err
		}
		if r.Code == 250 {
			return nil
		}
	}

	return setupError("EHLO", r)
}

func (p *Pool) startTLS(c *conn, addr string) error {
	offered := c.ext.Has("STARTTLS")
	if p.c.TLS == TLSOff || !offered && p.c.TLS == TLSOpportunistic {
		return nil
	}
	if !offered {
		return setupError("EHLO", reply.Reply{
			Code: 250,
			Text: "without STARTTLS, which relay.tls = \"required\" wants",
		})
	}

	r, err := c.command("STARTTLS")
	if err != nil {
		return err
	}
	if r.Code != 220 {
		if p.c.TLS == TLSOpportunistic && r.Code/100 != 2 {
			return nil
		}
		return setupError("STARTTLS", r)
	}
	if c.r.Buffered() > 0 { // what came in plain must not be read as if under TLS
		return errors.New("upstream: plain bytes after the answer to STARTTLS")
	}

	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	conf := &tls.Config{
		ServerName: host,
		MinVersion: tls.VersionTLS12,
		RootCAs:    p.c.RootCAs,
		// Opportunistic TLS keeps out who only listens; "required" verifies.
		InsecureSkipVerify: p.c.TLS == TLSOpportunistic,
		ClientSessionCache: p.sessions,
	}
	tc := tls.Client(c.raw, conf)
	tc.SetDeadline(time.Now().Add(c.t.Command))
	if err := tc.Handshake(); err != nil {
		return fmt.Errorf("TLS with %s: %w", addr, err)
	}
	c.raw, c.tls = tc, true
	c.buffers(tc)

	return p.ehlo(c)
}

// auth logs in with PLAIN, or with LOGIN where only that is offered, and gives
// the upstream's answer. Passwords go out only over verified TLS or to loopback.
func (p *Pool) auth(c *conn, user, pass string) (r reply.Reply, err error) {
	verified := c.tls && p.c.TLS == TLSRequired
	if a, ok := c.raw.RemoteAddr().(*net.TCPAddr); !verified && !(ok && a.IP.IsLoopback()) {
		return r, errors.New("upstream: passwords go only over verified TLS (relay.tls = \"required\") or to loopback")
	}

	mechs := " " + strings.ToUpper(c.ext["AUTH"]) + " "
	b64 := base64.StdEncoding.EncodeToString
	switch {
	case strings.Contains(mechs, " PLAIN "):
		return c.secretCommand("AUTH PLAIN "+b64([]byte("\x00"+user+"\x00"+pass)), "AUTH PLAIN ***")
	case strings.Contains(mechs, " LOGIN "):
		r, err = c.command("AUTH LOGIN")
		for _, secret := range []string{user, pass} {
			if err != nil || r.Code/100 != 3 {
				break
			}
			r, err = c.secretCommand(b64([]byte(secret)), "***")
		}
		return r, err
	}

	return r, setupError("EHLO", reply.Reply{Code: 250, Text: "without AUTH PLAIN or LOGIN"})
}

// dialFor opens a connection on a host and notes how that went.
func (p *Pool) dialFor(ctx context.Context, h *host, login func(*conn) error) (*conn, error) {
	start := time.Now()
	c, err := p.dialAs(ctx, h.addr, login)

	result := dialOK
	switch {
	case err == nil:
	case ctx.Err() != nil && time.Since(start) < p.c.Timeouts.Connect:
		result = dialGivenUp // by the caller, before the host had its time
	default:
		result = dialFailed
	}
	p.dialled(h, c, result)

	return c, err
}

// dialResult is how a dial went, as the metric counts it.
type dialResult string

// dialled notes how a dial went: a host that failed is tried after the others
// until its pause is over.
func (p *Pool) dialled(h *host, c *conn, result dialResult) {
	p.mu.Lock()
	switch result {
	case dialOK:
		h.failures, h.notBefore = 0, time.Time{}
		h.heard = time.Now()
		h.spoken, h.sevenBit = true, !c.ext.Has("8BITMIME")
	case dialFailed:
		h.failures++
		h.notBefore = time.Now().Add(min(time.Second<<min(h.failures-1, 5), 30*time.Second))
	}
	p.mu.Unlock()

	p.dials.WithLabelValues(h.addr, string(result)).Inc()
}

const (
	dialOK      dialResult = "ok"
	dialFailed  dialResult = "failed"
	dialGivenUp dialResult = "given_up"
)
