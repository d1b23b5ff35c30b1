package smtpd

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/envelope"
)

// Budget bounds the bytes of messages in flight, of all listeners together. It
// is asked and never waited for. It is safe for concurrent use.
type Budget struct {
	max  int64
	used atomic.Int64
}

// NewBudget makes a budget of max bytes; 0 is no limit.
func NewBudget(max int64) *Budget { return &Budget{max: max} }

// Used is how many bytes are taken now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Register exports the budget.
func (b *Budget) Register(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "postern_memory_budget_used_bytes", Help: "Of memory_budget, taken by messages in flight."},
		func() float64 { return float64(b.Used()) }))
}

func (b *Budget) take(n int64) bool {
	if b.used.Add(n) > b.max && b.max > 0 {
		b.used.Add(-n)
		return false
	}
	return true
}

// perByte is what a byte of a message costs while it is in flight: itself, and
// the copy that is rendered of it.
const (
	perByte  = 2
	heldStep = 256 << 10
)

var errMemory = &envelope.Fault{Class: envelope.Overloaded,
	Reply: envelope.Reply{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "Too many messages in flight, try again later"}}

// hold makes sure that the session holds budget for a message of n bytes.
func (ss *session) hold(n int64) error {
	need := n * perByte
	if need <= ss.held {
		return nil
	}
	if ss.held > 0 || n < heldStep { // it grows: not one byte at a time
		need = (need/heldStep + 1) * heldStep
	}
	if !ss.s.c.Budget.take(need - ss.held) {
		return errMemory
	}
	ss.held = need
	return nil
}

func (ss *session) releaseBudget() {
	ss.s.c.Budget.used.Add(-ss.held)
	ss.held = 0
}
