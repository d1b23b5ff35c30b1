package smtpd

import (
	"context"
	"net/netip"
	"sync"
)

// minHandshakes is how many TLS handshakes of one source may be under way, at
// the least.
const minHandshakes = 16

// handshakeSlots bounds the TLS handshakes of each source that are under way at
// once: others need not wait until all that one source begins are done.
type handshakeSlots struct {
	most int

	mu     sync.Mutex
	queues map[netip.Addr]*handshakeQueue
}

type handshakeQueue struct {
	places chan struct{}
	users  int // under way and waiting
}

func newHandshakeSlots(most int) *handshakeSlots {
	return &handshakeSlots{most: most, queues: map[netip.Addr]*handshakeQueue{}}
}

// acquire waits for a place, which the function that it returns gives back.
func (h *handshakeSlots) acquire(ctx context.Context, source netip.Addr) (func(), error) {
	h.mu.Lock()
	q := h.queues[source]
	if q == nil {
		q = &handshakeQueue{places: make(chan struct{}, h.most)}
		h.queues[source] = q
	}
	q.users++
	h.mu.Unlock()

	select {
	case q.places <- struct{}{}:
		return func() { <-q.places; h.leave(source, q) }, nil
	case <-ctx.Done():
		h.leave(source, q)
		return nil, ctx.Err()
	}
}

func (h *handshakeSlots) leave(source netip.Addr, q *handshakeQueue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q.users--
	if q.users == 0 {
		delete(h.queues, source)
	}
}
