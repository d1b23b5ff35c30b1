package upstream

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Dial opens a connection to an upstream.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// WrapDial replaces the function with which a pool dials by what wrap makes of
// it.
func (p *Pool) WrapDial(wrap func(Dial) Dial) { p.dial = wrap(p.dial) }

// Balance returns an error unless the pool's counts match its connections. No
// connection may be in use.
func (p *Pool) Balance() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.hosts {
		if h.busy != 0 || h.open != len(h.idle) {
			return fmt.Errorf("%s: %d are busy and %d open, with %d idle", h.addr, h.busy, h.open, len(h.idle))
		}
		for _, c := range h.idle {
			if c.broken || c.messages >= p.cfg.MaxMessages {
				return fmt.Errorf("%s: a connection is kept after %d messages, broken %v", h.addr, c.messages, c.broken)
			}
		}
	}

	return nil
}

// Idle returns the number of idle connections.
func (p *Pool) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, h := range p.hosts {
		n += len(h.idle)
	}

	return n
}

// Pause returns for how long an upstream is tried after the others.
func (p *Pool) Pause(addr string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.hosts {
		if h.addr == addr && !h.notBefore.IsZero() {
			return time.Until(h.notBefore)
		}
	}

	return 0
}

// Config returns the configuration of a pool with its defaults.
func (p *Pool) Config() Config { return p.cfg }
