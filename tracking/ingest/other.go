package ingest

import (
	"context"
	"slices"

	"postern/tracking/event"
)

// noteTaken records that the service accepted an upload.
func (u *Uploader) noteTaken(aside bool) {
	u.taken.Add(1)
	u.alone.Store(0)

	if !aside {
		u.metrics.failing.Set(0)
	}
}

// remember keeps the event of each type that the service accepted last.
func (u *Uploader) remember(it item) {
	u.mu.Lock()
	defer u.mu.Unlock()

	u.samples[it.typ] = it.line
}

// suspects are the types and message ids of events that were refused alone.
type suspects struct {
	types    map[event.Type]bool
	messages map[string]bool
}

// add adds the types and message ids of items that were refused.
func (s *suspects) add(items []item, refused []refusedItem) {
	if s.types == nil {
		s.types = map[event.Type]bool{}
		s.messages = map[string]bool{}
	}

	for _, h := range refused {
		s.types[items[h.item].typ] = true
		s.messages[messageID(items[h.item].line)] = true
	}
}

// messageID returns the message id of an event, "" if it cannot be read.
func messageID(line []byte) string {
	e, err := event.Decode(line)
	if err != nil {
		return ""
	}

	return e.MessageID
}

// candidate is an event that may show whether the service accepts anything: an item of
// the batch that is still to be sent, or, with item < 0, an event that was accepted
// before, which the service knows by its event_id.
type candidate struct {
	item int
	line []byte
}

// maxCandidates is how many events of a batch are considered.
const maxCandidates = 1000

// candidates returns the events of another type and message than those that were
// refused; if there are none, those of another message.
func (d *delivery) candidates() []candidate {
	var both, message []candidate

	consider := func(item int, typ event.Type, line []byte) {
		switch {
		case d.suspects.messages[messageID(line)]:
		case d.suspects.types[typ]:
			message = append(message, candidate{item, line})
		default:
			both = append(both, candidate{item, line})
		}
	}

	held := map[int]bool{}
	for _, h := range d.refused {
		held[h.item] = true
	}
	waiting := d.pendingItems()
	for _, i := range waiting[:min(len(waiting), maxCandidates)] {
		if !held[i] {
			consider(i, d.b.items[i].typ, d.b.items[i].line)
		}
	}

	d.u.mu.Lock()
	defer d.u.mu.Unlock()

	for typ, line := range d.u.samples {
		consider(-1, typ, line)
	}

	if len(both) > 0 {
		return both
	}

	return message
}

// sendOther sends an event of another type and message than those that were refused,
// each time another one. tried is false if there is none.
func (d *delivery) sendOther(ctx context.Context) (tried bool, err error) {
	list := d.candidates()
	if len(list) == 0 {
		return false, nil
	}

	c := list[d.tests%len(list)]
	d.tests++
	if c.item >= 0 {
		return true, d.send(ctx, []int{c.item})
	}

	_, _, err = d.cfg.Sink.Send(ctx, append(slices.Clip(c.line), '\n'))
	d.entry.Tries++
	d.metrics.batches.WithLabelValues(statusLabel(err)).Inc()
	if err == nil {
		d.u.noteTaken(d.weight > 0)
	}

	return true, err
}
