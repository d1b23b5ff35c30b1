package queue

import (
	"errors"
	"sort"
	"time"

	"postern/tracking/spool"
)

// ErrUnknown says that no such copy waits.
var ErrUnknown = errors.New("queue: no such copy waits")

// Waiting describes a copy that waits.
type Waiting struct {
	ID        string    `json:"id"`
	MessageID string    `json:"message_id"`
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

// List gives the copies that wait, by when they are due, at most n.
func (q *Queue) List(n int) []Waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]Waiting, 0, q.copies)
	for _, e := range q.entries {
		for _, c := range e.copies {
			out = append(out, Waiting{
				ID:        e.id,
				MessageID: c.messageID,
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

func (q *Queue) byMessageID(id string) *copyState {
	for _, e := range q.entries {
		if c := e.copies[id]; c != nil {
			return c
		}
	}
	return nil
}

// Show gives a waiting copy's bytes.
func (q *Queue) Show(messageID string) ([]byte, error) {
	q.mu.Lock()
	c := q.byMessageID(messageID)
	if c == nil {
		q.mu.Unlock()
		return nil, ErrUnknown
	}
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

// Retry makes a copy due now; the empty id, all. It returns how many.
func (q *Queue) Retry(messageID string) (int, error) {
	q.mu.Lock()
	n := 0
	for _, e := range q.entries {
		for id, c := range e.copies {
			if (messageID == "" || id == messageID) && !c.busy {
				c.next = q.c.Now()
				q.schedule(c)
				q.change(c)
				n++
			}
		}
	}
	q.mu.Unlock()
	if n == 0 && messageID != "" {
		return 0, ErrUnknown
	}

	// For whoever opens the spool next, where no gateway runs. A full disk is no
	// reason not to try.
	if err := q.Flush(); err != nil && !errors.Is(err, spool.ErrNoSpace) {
		return n, err
	}

	return n, nil
}

// Drop forgets a copy for good; nobody is told.
func (q *Queue) Drop(messageID string) error {
	q.mu.Lock()
	c := q.byMessageID(messageID)
	if c == nil || c.busy {
		q.mu.Unlock()
		return ErrUnknown
	}
	q.end(c, "dropped")
	q.mu.Unlock()
	q.c.Log.Warn("queue: copy dropped by the operator", "message_id", messageID, "recipient", c.recipient)
	return nil
}
