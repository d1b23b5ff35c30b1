package relay

import (
	"sync"
	"time"
)

const (
	noteEvery = time.Minute
	maxNotes  = 1000 // subjects that are remembered
)

// notes remembers what was logged lately, so that each subject is logged at most
// once every noteEvery. It is safe for concurrent use; the zero value is ready.
type notes struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// due reports whether a subject may be logged again. Above maxNotes subjects
// within noteEvery, new ones are not.
func (n *notes) due(subject string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	if at, ok := n.last[subject]; ok && now.Sub(at) < noteEvery && !now.Before(at) {
		return false
	}

	if len(n.last) >= maxNotes {
		for s, at := range n.last {
			if now.Sub(at) >= noteEvery || now.Before(at) {
				delete(n.last, s)
			}
		}
	}
	if len(n.last) >= maxNotes {
		return false
	}

	if n.last == nil {
		n.last = map[string]time.Time{}
	}
	n.last[subject] = now
	return true
}
