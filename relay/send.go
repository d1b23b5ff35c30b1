package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"postern/relay/reply"
	"postern/relay/upstream"
)

// Sender hands one copy to the upstream; *upstream.Login is one.
type Sender interface {
	Send(context.Context, *upstream.Transaction) upstream.Outcome
}

// Upstream hands one copy to the upstream; *upstream.Pool is one.
type Upstream interface {
	Sender
	Ping(context.Context) error
	// TakesEightBit reports whether copies with 8-bit content may be queued for
	// it as they are.
	TakesEightBit() bool
}

// attempt is what sending a copy came to. The zero value is that of a copy that
// was not sent.
type attempt struct {
	size int       // of the copy as it went out, in bytes
	at   time.Time // when it was handed to the upstream
	out  upstream.Outcome
	took time.Duration // until the upstream had answered
}

// tried reports whether the copy was handed to the upstream, or would have been.
func (a *attempt) tried() bool { return a.out.Err != nil || a.out.Reply.Code != 0 }

const (
	maxKeptBuffer = 1 << 20  // the largest buffer that is kept for the next copy
	maxCopyBytes  = 64 << 20 // of one transaction's copies in memory
)

// sendAll sends the copies, several at once. If the upstream turns out not to
// accept 8-bit content, the message is encoded and sent again to those who did
// not get it.
func (r *Relay) sendAll(ctx context.Context, m *outgoing) {
	r.sendEach(ctx, m, m.copies)

	var again []*recipientCopy
	for _, c := range m.copies {
		if errors.Is(c.out.Err, upstream.ErrEightBit) {
			again = append(again, c)
		}
	}
	if len(again) == 0 {
		return
	}

	m.content = r.sevenBitContent(m)
	r.sendEach(ctx, m, again)
}

func (r *Relay) sendEach(ctx context.Context, m *outgoing, copies []*recipientCopy) {
	if len(copies) == 1 {
		copies[0].attempt = r.send(ctx, m, copies[0])
		return
	}

	next := make(chan *recipientCopy)
	var wg sync.WaitGroup
	for range copiesInFlight(r.cfg.Sending.CopiesAtOnce, len(copies), m.content.plan.Size()) {
		wg.Go(func() {
			for c := range next {
				c.attempt = r.send(ctx, m, c)
			}
		})
	}

	for _, c := range copies {
		next <- c
	}
	close(next)
	wg.Wait()
}

// copiesInFlight returns how many of n copies of size bytes are sent at once: as
// many as the configuration allows and memory has room for, and at least one.
func copiesInFlight(allowed, n, size int) int {
	return min(allowed, n, 1+maxCopyBytes/(1+size))
}

// send renders a copy, signs it and hands it to the upstream. Once the time is
// over, it fails without asking the upstream.
func (r *Relay) send(ctx context.Context, m *outgoing, c *recipientCopy) attempt {
	a := c.attempt
	if err := ctx.Err(); err != nil {
		a.out = upstream.Outcome{Err: errOverdue(err)}
		return a
	}

	buf := r.buffers.get()
	defer r.buffers.put(buf)

	signature, err := r.render(m, c, buf)
	if err != nil {
		a.out = upstream.Outcome{Err: err}
		return a
	}

	t := &upstream.Transaction{
		From:      r.verp(m.route.returnPath, c.id.String()),
		Recipient: c.recipient,
		Params:    m.route.params,
		Message:   [][]byte{signature, buf.b},
		EightBit:  m.content.eightBit,
		Session:   m.s.Session,
		MessageID: c.id.String(),
	}
	t.Params.EnvelopeID = c.envelopeID(m)

	via := m.s.Via
	if via == nil {
		via = r.cfg.Upstream
	}

	a.size = len(signature) + len(buf.b)
	a.at = r.cfg.Now()
	a.out = via.Send(ctx, t)
	a.took += r.cfg.Now().Sub(a.at)
	return a
}

// errOverdue is the error of a copy that there was no time left for.
func errOverdue(cause error) error {
	const text = "Upstream did not answer in time, try again later"
	return reply.Defer(451, reply.EnhancedCode{4, 4, 1}, text, cause)
}

// copyBuffer collects a rendered copy.
type copyBuffer struct{ b []byte }

// Write implements io.Writer.
func (c *copyBuffer) Write(p []byte) (int, error) {
	c.b = append(c.b, p...)
	return len(p), nil
}

// bufferPool keeps buffers for the next copies, none of them large. The zero
// value is ready to use.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *copyBuffer {
	if buf, ok := p.pool.Get().(*copyBuffer); ok {
		return buf
	}
	return new(copyBuffer)
}

func (p *bufferPool) put(buf *copyBuffer) {
	if cap(buf.b) <= maxKeptBuffer {
		p.pool.Put(buf)
	}
}
