package smtpd

import (
	"context"
	"net/netip"
	"sync"
)

// minHandshakes is how many TLS handshakes of one source may always run at once.
const minHandshakes = 16

// handshakeSlots bounds the TLS handshakes of each source that run at once, so that
// one source cannot take all CPUs. It is safe for concurrent use.
type handshakeSlots struct {
	most int

	mu     sync.Mutex
	queues map[netip.Addr]*handshakeQueue
}

type handshakeQueue struct {
	places chan struct{}
	users  int // handshakes that run or wait
}

func newHandshakeSlots(most int) *handshakeSlots {
	return &handshakeSlots{most: most, queues: map[netip.Addr]*handshakeQueue{}}
}

// acquire waits for a place. The function that it returns gives the place back.
// The error is that of ctx.
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

// leave removes a queue that nobody uses any more.
func (h *handshakeSlots) leave(source netip.Addr, q *handshakeQueue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q.users--
	if q.users == 0 {
		delete(h.queues, source)
	}
}
