package relay

import (
	"context"
	"errors"
	"sync"

	"postern/relay/reply"
	"postern/relay/upstream"
)

// sendAll sends the copies, several at once. Where it turns out that the
// upstream takes no 8-bit content, the message is encoded and sent again to
// those who did not get it.
func (r *Relay) sendAll(ctx context.Context, m *outgoing) {
	r.sendEach(ctx, m, m.copies)

	var again []*copyOf
	for _, c := range m.copies {
		if errors.Is(c.out.Err, upstream.ErrEightBit) {
			again = append(again, c)
		}
	}

	if len(again) > 0 {
		r.makePlan(m, true)
		r.sendEach(ctx, m, again)
	}
}

func (r *Relay) sendEach(ctx context.Context, m *outgoing, copies []*copyOf) {
	if len(copies) == 1 {
		r.send(ctx, m, copies[0])
		return
	}

	next := make(chan *copyOf)
	var wg sync.WaitGroup
	for range copiesInFlight(r.cfg.Sending.CopiesAtOnce, len(copies), m.plan.Size()) {
		wg.Go(func() {
			for c := range next {
				r.send(ctx, m, c)
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
// many as the configuration allows and memory has room for, and one at least.
func copiesInFlight(allowed, n, size int) int {
	return min(allowed, n, 1+maxCopyBytes/(1+size))
}

// copyBuffer collects a rendered copy.
type copyBuffer struct{ b []byte }

func (c *copyBuffer) Write(p []byte) (int, error) {
	c.b = append(c.b, p...)
	return len(p), nil
}

// bufferPool holds buffers for the next copies, none of them large. The zero
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

// send renders a copy, signs it and hands it over. A copy whose time is over is
// left as one that could not be handed over.
func (r *Relay) send(ctx context.Context, m *outgoing, c *copyOf) {
	if err := ctx.Err(); err != nil {
		overdue := reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "Upstream did not answer in time, try again later", err)
		c.out = upstream.Outcome{Err: overdue}
		return
	}

	buf := r.buffers.get()
	defer r.buffers.put(buf)

	signature, err := r.render(m, c, buf)
	if err != nil {
		c.out = upstream.Outcome{Err: err}
		return
	}

	t := &upstream.Transaction{
		From:      r.verp(m.from, c.id.String()),
		Recipient: c.recipient,
		Params:    m.params,
		Message:   [][]byte{signature, buf.b},
		EightBit:  m.eightBit,
		Session:   m.s.Session,
		MessageID: c.id.String(),
	}
	t.Params.EnvelopeID = c.envelopeID(m)

	via := m.s.Via
	if via == nil {
		via = r.cfg.Upstream
	}

	c.size, c.at = len(signature)+len(buf.b), r.cfg.Now()
	c.out = via.Send(ctx, t)
	c.took += r.cfg.Now().Sub(c.at)
}

const (
	maxKeptBuffer = 1 << 20  // the largest buffer that waits for the next copy
	maxCopyBytes  = 64 << 20 // of one transaction's copies at once
)
