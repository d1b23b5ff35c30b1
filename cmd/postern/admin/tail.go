package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"postern/tracking/event"
	"postern/tracking/spool"
)

// Tail prints the events of a spool as JSON lines.
type Tail struct {
	Dir     string              // of the spool
	Types   map[event.Type]bool // empty: all
	Message string              // a message id, or the queue id of a message; empty: all
	All     bool                // begin with the oldest event that is kept
	Follow  bool                // wait for more
	Raw     bool                // as stored
}

// tailEvery is how often the spool is read when following it.
const tailEvery = 200 * time.Millisecond

// Run prints until everything was printed or, when following, until ctx ends.
func (t *Tail) Run(ctx context.Context, to io.Writer) error {
	out := bufio.NewWriter(to)
	filter := newMessageFilter(t.Message)
	show := t.All || !t.Follow
	var at spool.Position

	read := func() error {
		err := spool.ReadFrom(t.Dir, at, func(r spool.Record) bool {
			at = r.Next
			if show {
				t.print(out, filter, r.Data)
			} else {
				filter.note(r.Data)
			}
			return true
		})
		return errors.Join(err, out.Flush())
	}

	if err := read(); err != nil || !t.Follow {
		return err
	}

	show = true
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}

		if err := read(); err != nil {
			return err
		}
	}
}

// print writes a stored event if it is asked for. One that cannot be read is
// written as it is, unless a filter asks what it is.
func (t *Tail) print(out *bufio.Writer, filter *messageFilter, stored []byte) {
	line := stored
	ev, err := event.Decode(stored)
	switch {
	case err != nil && (len(t.Types) > 0 || filter.id != ""):
		return
	case err != nil:
	case !filter.matches(ev), len(t.Types) > 0 && !t.Types[ev.Type]:
		return
	case !t.Raw:
		if public, err := ev.EncodePublic(); err == nil {
			line = public
		}
	}

	_, _ = out.Write(line) // Flush returns the error
	_ = out.WriteByte('\n')
}

// messageFilter selects the events of a message id, or of all copies of the
// message whose client was given an id. An event that comes after the gateway's
// own has only the copy's message id, so that the filter has to see those from
// before.
type messageFilter struct {
	id     string // empty: every event
	copies map[string]bool
}

func newMessageFilter(id string) *messageFilter {
	return &messageFilter{id: id, copies: map[string]bool{id: true}}
}

func (f *messageFilter) matches(e *event.Event) bool {
	if f.id == "" {
		return true
	}

	if e.Local.Session == f.id {
		f.copies[e.MessageID] = true
	}
	return f.copies[e.MessageID]
}

// note takes notice of an event that is not shown.
func (f *messageFilter) note(stored []byte) {
	if f.id == "" {
		return
	}
	if ev, err := event.Decode(stored); err == nil {
		f.matches(ev)
	}
}
