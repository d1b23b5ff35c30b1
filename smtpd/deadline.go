package smtpd

import (
	"errors"
	"io"
	"time"
)

// SetReadDeadline is called by go-smtp before each line. It never reaches
// beyond the phase's end.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.phaseEnd.IsZero() && (t.IsZero() || t.After(c.phaseEnd)) {
		t = c.phaseEnd
	}

	return c.Conn.SetReadDeadline(t)
}

// phase begins a phase that ends after d, whatever is read; 0 means no end.
func (c *conn) phase(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phaseEnd = time.Time{}
	if d > 0 {
		c.phaseEnd = time.Now().Add(d)
		c.Conn.SetReadDeadline(c.phaseEnd)
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// messageTimeout is how long a message may take to arrive: base, and beside that
// its size at minRate.
type messageTimeout struct {
	base    time.Duration
	minRate int64 // bytes a second; 0: no time for the size
}

// phaseReader holds a message's arrival to its time as a whole, and each read
// to the idle timeout.
type phaseReader struct {
	r     io.Reader
	conn  *conn
	limit messageTimeout
	start time.Time
	n     int64
}

// refusedSize is how many times the size of the largest message one that is too
// large may have and get the time for it.
const refusedSize = 2

func (p *phaseReader) Read(b []byte) (int, error) {
	total := p.limit.base
	if p.limit.minRate > 0 {
		size := p.n
		if most := p.conn.cfg.maxMessage; most > 0 {
			size = min(size, refusedSize*most)
		}
		total += time.Duration(size/p.limit.minRate) * time.Second
	}
	left := total - time.Since(p.start)

	p.conn.phase(max(left, time.Millisecond))
	p.conn.SetReadDeadline(time.Now().Add(p.conn.cfg.idle))
	n, err := p.r.Read(b)
	p.n += int64(n)

	return n, err
}
