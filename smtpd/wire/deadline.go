package wire

import (
	"errors"
	"io"
	"time"
)

// SetReadDeadline implements net.Conn. go-smtp calls it before each line. The
// deadline is never later than the end of the phase.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.phaseEnd.IsZero() && (t.IsZero() || t.After(c.phaseEnd)) {
		t = c.phaseEnd
	}

	return c.Conn.SetReadDeadline(t)
}

// BeginPhase begins a phase that ends after d, whatever the client sends; 0
// means no end.
func (c *Conn) BeginPhase(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d <= 0 {
		c.phaseEnd = time.Time{}
		return
	}

	c.phaseEnd = time.Now().Add(d)
	c.Conn.SetReadDeadline(c.phaseEnd)
}

// allowIdle gives the client the idle timeout for the next read.
func (c *Conn) allowIdle() { c.SetReadDeadline(time.Now().Add(c.cfg.Idle)) }

// IsTimeout reports whether an error is that of a deadline.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// MessageTimeout is how long a message may take to arrive: Base, and the time
// for its size at MinRate.
type MessageTimeout struct {
	Base    time.Duration
	MinRate int64 // bytes per second; 0: no time for the size
}

// allows returns the time for a message of size bytes.
func (t MessageTimeout) allows(size int64) time.Duration {
	if t.MinRate <= 0 {
		return t.Base
	}

	return t.Base + time.Duration(size/t.MinRate)*time.Second
}

// phaseReader bounds the arrival of a message in total, and each read of it by
// the idle timeout.
type phaseReader struct {
	r     io.Reader
	conn  *Conn
	limit MessageTimeout
	start time.Time
	n     int64
}

// refusedSize is for messages that are too large. Their size counts towards
// their time up to so many times the maximum size.
const refusedSize = 2

// Read implements io.Reader.
func (p *phaseReader) Read(b []byte) (int, error) {
	size := p.n
	if largest := p.conn.cfg.MaxMessage; largest > 0 {
		size = min(size, refusedSize*largest)
	}
	left := p.limit.allows(size) - time.Since(p.start)

	p.conn.BeginPhase(max(left, time.Millisecond))
	p.conn.allowIdle()
	n, err := p.r.Read(b)
	p.n += int64(n)

	return n, err
}
