package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/tracking/spool"
)

var (
	// ErrUnknown says that no waiting copy has the id.
	ErrUnknown = errors.New("queue: no such copy is waiting")

	// ErrInFlight says that a copy is being sent, so that nothing can be done
	// about it until the upstream has replied.
	ErrInFlight = errors.New("queue: the copy is being sent")
)

// Waiting describes a waiting copy.
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

// List returns the n waiting copies that are due first, in that order.
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

	slices.SortFunc(out, func(a, b Waiting) int { return a.Next.Compare(b.Next) })

	return out[:min(n, len(out))]
}

// byID returns the waiting copies with an id, in the order of their message ids.
// A message id is that of one copy; the id in the reply to the client is that of
// all copies of its message; the empty id is that of all copies. q.mu must be
// held.
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

// Show returns the bytes of the waiting copy with an id. If several have it, Show
// returns a list of them as text.
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

	i := t.find(messageID)
	if i < 0 {
		return nil, ErrUnknown
	}

	return t.Message(i), nil
}

// listCopies returns one line for each copy. q.mu must be held.
func listCopies(id string, copies []*copyState) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%d copies of %s are waiting; show each by its message id:\n", len(copies), id)
	for _, c := range copies {
		fmt.Fprintf(&b, "%s %s tries=%d reply=%.100q\n", c.messageID, c.recipient, c.tries, c.reply)
	}

	return []byte(b.String())
}

// Retry makes the waiting copies with an id due now, or all copies if the id is
// empty. It returns their number. The error is ErrUnknown if no copy has the id,
// and ErrInFlight if all that do are being sent.
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

	// If Serve is not running, the change is for the next process that opens the
	// queue. On a full disk the copies are due all the same.
	if err := q.Flush(); err != nil && !errors.Is(err, spool.ErrNoSpace) {
		return n, err
	}

	return n, nil
}

// Drop removes the waiting copies with an id for good; no DSN is sent. Copies that
// are being sent are not removed, and the error is then ErrInFlight.
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
		q.cfg.Log.Warn("queue: copy dropped by operator",
			"message_id", c.messageID,
			"recipient", c.recipient,
			"session", c.e.session,
		)
	}

	left := len(copies) - len(dropped)
	switch {
	case len(copies) == 0:
		return ErrUnknown
	case left > 0 && len(dropped) > 0:
		return fmt.Errorf("%w: %d of %d copies of %s; the others were dropped", ErrInFlight, left, len(copies), id)
	case left > 0:
		return fmt.Errorf("%w and was not dropped; the log will have the outcome", ErrInFlight)
	}

	return nil
}
