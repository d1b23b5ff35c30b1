package upstream

import (
	"context"
	"time"
)

// Check dials upstreams that failed last and whose pause is over, so that no
// mail has to find out whether they are back.
func (p *Pool) Check(ctx context.Context) {
	p.mu.Lock()
	var ill []*host
	for _, h := range p.hosts {
		if h.failures > 0 && !time.Now().Before(h.notBefore) && h.open < p.c.MaxConnections && !p.retired {
			h.open++
			h.busy++
			ill = append(ill, h)
		}
	}
	p.mu.Unlock()

	for _, h := range ill {
		c, _ := p.dialFor(ctx, h, p.login)
		p.release(h, c)
	}
}

// Ping asks any upstream whether it takes mail: over a kept connection that
// still answers, else over a new one, which is then kept. Where all connections
// are busy, an upstream that answered lately is well, and one that did not is
// asked over a connection beyond the limit: a probe must not wait behind mail.
func (p *Pool) Ping(ctx context.Context) error {
	if h := p.saturated(); h != nil {
		return p.pingBusy(ctx, h)
	}

	for fresh := false; ; fresh = true {
		l, err := p.acquire(ctx, fresh, nil)
		if err != nil {
			return err
		}

		c := l.c
		if c == nil {
			c, err = p.dialFor(ctx, l.h, p.login)
			p.release(l.h, c)
			return err
		}

		r, err := c.command("NOOP")
		if err == nil && r.Code == 421 {
			c.broken, err = true, errStale
		}
		p.release(l.h, c)
		if err == nil || fresh {
			return err
		}
	}
}

// hear notes that a host answered as it should.
func (p *Pool) hear(h *host) {
	p.mu.Lock()
	h.heard = time.Now()
	p.mu.Unlock()
}

// saturated returns the host that was heard last where each connection of all
// hosts is in use; nil where one is free.
func (p *Pool) saturated() *host {
	p.mu.Lock()
	defer p.mu.Unlock()

	var last *host
	for _, h := range p.hosts {
		if len(h.idle) > 0 || h.open < p.c.MaxConnections || p.closed {
			return nil
		}
		if last == nil || h.heard.After(last.heard) {
			last = h
		}
	}

	return last
}

// pingBusy asks a host of which all connections are in use.
func (p *Pool) pingBusy(ctx context.Context, h *host) error {
	p.mu.Lock()
	heard := h.heard
	p.mu.Unlock()
	if time.Since(heard) < p.c.Wait {
		return nil
	}

	c, err := p.dialFor(ctx, h, p.login)
	if err == nil {
		c.quit()
	}

	return err
}
