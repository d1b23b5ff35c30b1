package smtpd

import (
	"net/netip"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/reply"
)

// Budget bounds the bytes of messages in flight. Reservations never block. It is
// safe for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of limit bytes; 0 means no limit.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used returns how many bytes are reserved.
func (b *Budget) Used() int64 { return b.used.Load() }

// Reserve reserves n bytes and reports whether so many were left. Release gives
// them back.
func (b *Budget) Reserve(n int64) bool {
	for {
		used := b.used.Load()
		if b.limit > 0 && n > b.limit-used {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// Release gives back n bytes that Reserve reserved.
func (b *Budget) Release(n int64) { b.used.Add(-n) }

// Register registers a gauge of the bytes that are reserved.
func (b *Budget) Register(r prometheus.Registerer, name, help string) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: name,
		Help: help,
	}, func() float64 { return float64(b.Used()) }))
}

// Cost of a byte of a message in flight. A submission is rendered for each
// recipient in turn, and costs as much as itself and a copy. A report costs as
// much as itself.
const (
	submissionCost = 2
	reportCost     = 1
)

// sourceShare makes a quarter the part of the reports' budget that one source may
// hold. Clients of submissions are known, and may hold all of theirs.
const sourceShare = 4

var errMemory = &reply.Fault{
	Class: reply.Overloaded,
	Reply: reply.Reply{
		Code:     452,
		Enhanced: reply.EnhancedCode{4, 3, 1},
		Text:     "Too many messages in flight, try again later",
	},
}

// reserve reserves n bytes for a source.
func (s *Server) reserve(source netip.Addr, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if share := s.sourceShare(); share > 0 && s.held[source]+n > share {
		return false
	}
	if !s.cfg.Budget.Reserve(n) {
		return false
	}
	s.held[source] += n

	return true
}

// sourceShare returns how many bytes of the budget one source may hold; 0 means
// no bound but the budget's own.
func (s *Server) sourceShare() int64 {
	if s.traits.sourceShare == 0 {
		return 0
	}

	return s.cfg.Budget.limit / s.traits.sourceShare
}

// release gives back n bytes of a source.
func (s *Server) release(source netip.Addr, n int64) {
	s.cfg.Budget.Release(n)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[source] -= n
	if s.held[source] <= 0 {
		delete(s.held, source)
	}
}

// reserveBudget makes sure that the session holds budget for n bytes of a
// message.
func (s *session) reserveBudget(n int64) error {
	need := n * s.srv.traits.byteCost
	if need <= s.held {
		return nil
	}
	if !s.srv.reserve(s.source(), need-s.held) {
		return errMemory
	}
	s.held = need

	return nil
}

// releaseBudget gives back what the session holds.
func (s *session) releaseBudget() {
	s.srv.release(s.source(), s.held)
	s.held = 0
}
