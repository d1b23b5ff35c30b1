package wire

import (
	"errors"
	"io"
	"time"
)

// SetReadDeadline is called by go-smtp before each line. It never reaches
// beyond the phase's end.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.phaseEnd.IsZero() && (t.IsZero() || t.After(c.phaseEnd)) {
		t = c.phaseEnd
	}

	return c.Conn.SetReadDeadline(t)
}

// BeginPhase begins a phase that ends after d, whatever is read; 0 means no end.
func (c *Conn) BeginPhase(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phaseEnd = time.Time{}
	if d > 0 {
		c.phaseEnd = time.Now().Add(d)
		c.Conn.SetReadDeadline(c.phaseEnd)
	}
}

func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// MessageTimeout is how long a message may take to arrive: base, and beside that
// its size at minRate.
type MessageTimeout struct {
	Base    time.Duration
	MinRate int64 // bytes a second; 0: no time for the size
}

// phaseReader holds a message's arrival to its time as a whole, and each read
// to the idle timeout.
type phaseReader struct {
	r     io.Reader
	conn  *Conn
	limit MessageTimeout
	start time.Time
	n     int64
}

// refusedSize is how many times the size of the largest message one that is too
// large may have and get the time for it.
const refusedSize = 2

func (p *phaseReader) Read(b []byte) (int, error) {
	total := p.limit.Base
	if p.limit.MinRate > 0 {
		size := p.n
		if most := p.conn.cfg.MaxMessage; most > 0 {
			size = min(size, refusedSize*most)
		}
		total += time.Duration(size/p.limit.MinRate) * time.Second
	}
	left := total - time.Since(p.start)

	p.conn.BeginPhase(max(left, time.Millisecond))
	p.conn.SetReadDeadline(time.Now().Add(p.conn.cfg.Idle))
	n, err := p.r.Read(b)
	p.n += int64(n)

	return n, err
}
