package upstream

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Dial opens a connection to an upstream.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// WrapDial has a pool open its connections by what wrap makes of its own way.
func (p *Pool) WrapDial(wrap func(Dial) Dial) { p.dial = wrap(p.dial) }

// Balance reports what a pool thinks is under way or open, where that is not what
// it has: nothing may be in use.
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

// Idle is how many connections are kept.
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

// Config returns a pool's configuration, with the defaults.
func (p *Pool) Config() Config { return p.cfg }
