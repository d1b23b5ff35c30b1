package demo

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

const (
	maxShown     = 200
	maxShownSize = 10 << 20 // bytes of a message
)

// mailbox keeps the newest messages and events for the page. It is safe for
// concurrent use.
type mailbox struct {
	mu       sync.Mutex
	messages []shownMessage
	events   []shownEvent
	last     int
	changed  chan struct{} // closed and replaced at every change
}

type shownMessage struct {
	N    int
	From string
	To   string
	At   time.Time
	Data []byte
}

type shownEvent struct {
	N     int             `json:"n"`
	At    time.Time       `json:"at"`
	Name  string          `json:"name"`  // the public name
	Event json.RawMessage `json:"event"` // what the ingest service got
}

func newMailbox() *mailbox { return &mailbox{changed: make(chan struct{})} }

// deliver keeps a message that the sink took.
func (b *mailbox) deliver(m *sink.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.last++
	b.messages = newest(append(b.messages, shownMessage{
		N:    b.last,
		From: m.From,
		To:   m.To,
		At:   m.At,
		Data: m.Data[:min(len(m.Data), maxShownSize)],
	}))
	b.notify()
}

// event keeps an event that the ingest endpoint took.
func (b *mailbox) event(e ingestd.Stored) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.last++
	shown := shownEvent{
		N:     b.last,
		At:    e.At,
		Event: json.RawMessage(e.Line),
	}
	if ev, err := event.Decode([]byte(e.Line)); err == nil {
		shown.Name = ev.Type.PublicName()
	}
	b.events = newest(append(b.events, shown))
	b.notify()
}

// newest returns the last maxShown of a list.
func newest[T any](list []T) []T { return list[max(0, len(list)-maxShown):] }

// notify tells those who wait of a change. The caller holds mu.
func (b *mailbox) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// snapshot returns what is kept, oldest first, and a channel that is closed at
// the next change.
func (b *mailbox) snapshot() (messages []shownMessage, events []shownEvent, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()

	return slices.Clone(b.messages), slices.Clone(b.events), b.changed
}

// message returns a message by its number.
func (b *mailbox) message(n int) (shownMessage, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()

	for _, m := range b.messages {
		if m.N == n {
			return m, true
		}
	}

	return shownMessage{}, false
}
