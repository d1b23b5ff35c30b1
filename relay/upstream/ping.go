package upstream

import (
	"context"
	"time"
)

// Ping reports whether any upstream accepts mail. It asks over an idle
// connection, or over a new one, which is then kept. If all connections are in
// use, an upstream that was healthy within Config.Wait counts as reachable, and
// another is asked over a connection above the limit: a health check must not
// wait behind mail.
func (p *Pool) Ping(ctx context.Context) error {
	if h := p.saturated(); h != nil {
		return p.pingBusy(ctx, h)
	}

	for from := reuseIdle; ; from = dialNew {
		l, err := p.acquire(ctx, from, nil)
		if err != nil {
			return err
		}

		c := l.c
		if c == nil {
			c, err = p.dialHost(ctx, l.h, p.login)
			p.release(l.h, c)
			return err
		}

		err = c.noop()
		p.release(l.h, c)
		if err == nil || from == dialNew {
			return err
		}
	}
}

// noop asks whether the connection still works.
func (c *conn) noop() error {
	r, err := c.command("NOOP")
	if err == nil && r.Code == 421 {
		c.broken = true
		err = errStale
	}

	return err
}

// saturated returns the host that was healthy last if all connections of all
// hosts are in use, or else nil.
func (p *Pool) saturated() *host {
	p.mu.Lock()
	defer p.mu.Unlock()

	var last *host
	for _, h := range p.hosts {
		if len(h.idle) > 0 || h.open < p.cfg.MaxConnections || p.closed {
			return nil
		}
		if last == nil || h.lastHealthy.After(last.lastHealthy) {
			last = h
		}
	}

	return last
}

// pingBusy reports whether a host whose connections are all in use accepts mail.
func (p *Pool) pingBusy(ctx context.Context, h *host) error {
	p.mu.Lock()
	healthy := h.lastHealthy
	p.mu.Unlock()

	if time.Since(healthy) < p.cfg.Wait {
		return nil
	}

	c, err := p.dialHost(ctx, h, p.login)
	if err == nil {
		c.quit()
	}

	return err
}

// Check dials the upstreams whose last dial failed and whose pause is over, so
// that no message has to wait for the discovery that they are back.
func (p *Pool) Check(ctx context.Context) {
	for _, h := range p.reserveFailed() {
		c, _ := p.dialHost(ctx, h, p.login)
		p.release(h, c)
	}
}

// reserveFailed leases a new connection to each host that Check dials.
func (p *Pool) reserveFailed() []*host {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.retired {
		return nil
	}

	var failed []*host
	now := time.Now()
	for _, h := range p.hosts {
		if h.failures > 0 && !now.Before(h.notBefore) && h.open < p.cfg.MaxConnections {
			h.open++
			h.busy++
			failed = append(failed, h)
		}
	}

	return failed
}
