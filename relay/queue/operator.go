package queue

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"postern/tracking/spool"
)

var (
	// ErrUnknown says that no such copy waits.
	ErrUnknown = errors.New("queue: no such copy waits")

	// ErrInFlight says that a copy is being sent now, so that nothing can be
	// done about it until its upstream has answered.
	ErrInFlight = errors.New("queue: the copy is being sent now")
)

// Waiting describes a copy that waits.
type Waiting struct {
	ID        string    `json:"id"`
	MessageID string    `json:"message_id"`
	Session   string    `json:"session,omitempty"`
	From      string    `json:"from"`
	Recipient string    `json:"recipient"`
	Created   time.Time `json:"created"`
	Tries     int       `json:"tries"`
	LastTry   time.Time `json:"last_try"`
	Next      time.Time `json:"next"`
	Away      bool      `json:"upstream_away"`
	Reply     string    `json:"reply"`
	Size      int       `json:"size"`
}

// List returns the copies that wait, by when they are due, at most n.
func (q *Queue) List(n int) []Waiting {
	q.mu.Lock()
	defer q.mu.Unlock()

	out := make([]Waiting, 0, q.copies)
	for _, e := range q.entries {
		for _, c := range e.copies {
			out = append(out, Waiting{
				ID:        e.id,
				MessageID: c.messageID,
				Session:   e.session,
				From:      e.from,
				Recipient: c.recipient,
				Created:   e.created,
				Tries:     c.tries,
				LastTry:   c.lastTry,
				Next:      c.next,
				Away:      c.isAway,
				Reply:     c.reply,
				Size:      e.size,
			})
		}
	}

	sort.Slice(out, func(i, j int) bool { return out[i].Next.Before(out[j].Next) })
	return out[:min(n, len(out))]
}

// byID returns the copies that an id is of, by message id: one copy for its
// message id, all that wait of a message for the id that its client got. The
// empty id is that of every copy. Under mu.
func (q *Queue) byID(id string) []*copyState {
	var out []*copyState
	for _, e := range q.entries {
		if c := e.copies[id]; c != nil {
			return []*copyState{c}
		}
		if id != "" && id != e.session {
			continue
		}
		for _, c := range e.copies {
			out = append(out, c)
		}
	}

	slices.SortFunc(out, func(a, b *copyState) int { return strings.Compare(a.messageID, b.messageID) })
	return out
}

// Show returns the bytes of a waiting copy, or where the id is that of several,
// a list of them.
func (q *Queue) Show(id string) ([]byte, error) {
	if id == "" {
		return nil, ErrUnknown
	}

	q.mu.Lock()
	copies := q.byID(id)
	switch len(copies) {
	case 0:
		q.mu.Unlock()
		return nil, ErrUnknown
	case 1:
	default:
		list := listCopies(id, copies)
		q.mu.Unlock()
		return list, nil
	}
	c := copies[0]
	messageID := c.messageID
	at, size := c.e.at, c.e.size
	q.mu.Unlock()

	t, err := q.read(at, size)
	if err != nil {
		return nil, err
	}

	if i := t.find(messageID); i >= 0 {
		return t.Message(i), nil
	}
	return nil, ErrUnknown
}

// listCopies writes a line for each copy; under mu.
func listCopies(id string, copies []*copyState) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%d copies of %s wait; show each by its message id:\n", len(copies), id)
	for _, c := range copies {
		fmt.Fprintf(&b, "%s %s tries=%d reply=%.100q\n", c.messageID, c.recipient, c.tries, c.reply)
	}
	return []byte(b.String())
}

// Retry makes the copies of an id due now; the empty id, all. It returns how
// many; ErrInFlight where all that there are are being sent.
func (q *Queue) Retry(id string) (int, error) {
	q.mu.Lock()
	copies := q.byID(id)
	n := 0
	for _, c := range copies {
		if c.busy {
			continue
		}
		c.next = q.cfg.Now()
		q.schedule(c)
		q.markChanged(c)
		n++
	}
	q.mu.Unlock()

	switch {
	case id != "" && len(copies) == 0:
		return 0, ErrUnknown
	case id != "" && n == 0:
		return 0, ErrInFlight
	}

	// For whoever opens the spool next, where no gateway runs. A full disk is no
	// reason not to try.
	if err := q.Flush(); err != nil && !errors.Is(err, spool.ErrNoSpace) {
		return n, err
	}

	return n, nil
}

// Drop forgets the copies of an id for good; nobody is told. Those that are
// being sent stay, and are ErrInFlight.
func (q *Queue) Drop(id string) error {
	if id == "" {
		return ErrUnknown
	}

	q.mu.Lock()
	copies := q.byID(id)
	var dropped []*copyState
	for _, c := range copies {
		if !c.busy {
			q.endCopy(c, "dropped")
			dropped = append(dropped, c)
		}
	}
	q.mu.Unlock()

	for _, c := range dropped {
		q.cfg.Log.Warn("queue: copy dropped by the operator", "message_id", c.messageID,
			"recipient", c.recipient, "session", c.e.session)
	}

	left := len(copies) - len(dropped)
	switch {
	case len(copies) == 0:
		return ErrUnknown
	case left > 0 && len(dropped) > 0:
		return fmt.Errorf("%w: %d of %d copies of %s; the others were dropped", ErrInFlight, left, len(copies), id)
	case left > 0:
		return fmt.Errorf("%w, and is not dropped; the log will say what came of it", ErrInFlight)
	}
	return nil
}
