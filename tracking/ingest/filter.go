package ingest

import (
	"postern/tracking/event"
	"postern/tracking/spool"
)

// add adds a record to a batch, and its event if it passes the filter.
func (u *Uploader) add(b *batch, r spool.Record) {
	b.To = r.Next
	b.Sum = addSum(b.Sum, r)
	b.span += len(r.Data)

	line, _ := event.CutSession(r.Data)
	it := item{line: line, span: Span{From: r.At, To: r.Next}}

	h, err := readHead(line)
	if err != nil {
		u.cfg.Log.Error("ingest: a record of the event log is not an event", "err", err)
		it.unreadable = err.Error()
		b.items = append(b.items, it)
		return
	}

	it.typ = h.typ
	it.time = h.time
	if u.cfg.Filter.Types != nil && !u.cfg.Filter.Types[h.typ] {
		u.metrics.filtered.WithLabelValues(h.typ.PublicName()).Inc()
		return
	}

	if u.cfg.Filter.HashRecipients || h.beside {
		line, wanted, err := u.change(line)
		switch {
		case err != nil:
			it.unreadable = err.Error()
		case !wanted:
			u.metrics.filtered.WithLabelValues(h.typ.PublicName()).Inc()
			return
		default:
			it.line = line
		}
	}

	b.items = append(b.items, it)
	if it.unreadable == "" {
		b.Events++
		b.Raw += len(it.line) + 1
	}
}

// change returns a line as it is uploaded: without the object beside the API's, and
// with the recipient hashed if that is configured. wanted is false for an event that
// is not uploaded.
func (u *Uploader) change(line []byte) (out []byte, wanted bool, err error) {
	e, err := event.Decode(line)
	if err != nil {
		return nil, false, err
	}

	if e.Class != (event.Class{}) && !u.machine(e) {
		return nil, false, nil
	}
	e.Local = event.Local{}
	if u.cfg.Filter.HashRecipients {
		e.HashRecipient()
	}
	out, err = e.Encode()

	return out, true, err
}

// machine changes an event that no person caused as configured, and reports whether it
// is uploaded. An unsubscribe link that a machine followed is not, unless it counts
// as a person: it unsubscribes nobody, and its type cannot be marked.
func (u *Uploader) machine(e *event.Event) bool {
	as := u.cfg.Filter.Machines[e.Class.Kind]
	e.Class = event.Class{}

	if as == Person {
		e.IsPrefetched = false
		if e.UserAgentParsed != nil {
			e.UserAgentParsed.IsPrefetched = false
		}
		return true
	}

	return as != Drop && e.Type != event.LinkUnsubscribe
}

// Values of FilterConfig.Machines.
const (
	Mark   = "mark"   // uploaded with is_prefetched
	Drop   = "drop"   // not uploaded
	Person = "person" // uploaded like a person's
)
