package spool

import (
	"context"
)

// Class says how far an append goes where the disk is nearly full.
type Class int

// The classes of appends.
const (
	Ordinary  Class = iota // leaves the headroom and others' reservations alone
	Internal               // may use most of the headroom
	Essential              // may use all that there is, and the room set apart
)

type request struct {
	lines   []byte
	offsets []int // of the records' lines, in lines
	class   Class
	at      Position // where lines begin, once they are durable
	done    chan error
}

// Append makes records durable. When it returns nil they are fsynced. A record
// holds no newline. ErrNoSpace says that the disk is too full for them.
func (s *Spool) Append(ctx context.Context, records ...[]byte) error {
	_, err := s.AppendAt(ctx, records...)
	return err
}

// AppendAt is Append, and returns where each record is, for ReadAt.
func (s *Spool) AppendAt(ctx context.Context, records ...[]byte) ([]Position, error) {
	return s.AppendAs(ctx, s.cfg.Class, records...)
}

// AppendAs is AppendAt with a class of its own.
func (s *Spool) AppendAs(ctx context.Context, class Class, records ...[]byte) ([]Position, error) {
	r := newRequest(class, records)
	if err := s.send(ctx, r); err != nil {
		return nil, err
	}

	if err := s.wait(r); err != nil {
		return nil, err
	}

	at := make([]Position, len(records))
	for i, o := range r.offsets {
		at[i] = Position{r.at.Segment, r.at.Offset + int64(o)}
	}

	return at, nil
}

// Group is some records that are appended together, or not at all.
type Group struct {
	Class   Class
	Records [][]byte
}

// AppendGroups appends groups with as few fsyncs as one append has, and returns
// an error for each.
func (s *Spool) AppendGroups(ctx context.Context, groups []Group) []error {
	errs := make([]error, len(groups))
	requests := make([]*request, len(groups))
	for i, g := range groups {
		if len(g.Records) == 0 {
			continue
		}
		r := newRequest(g.Class, g.Records)
		if errs[i] = s.send(ctx, r); errs[i] == nil {
			requests[i] = r
		}
	}

	for i, r := range requests {
		if r != nil {
			errs[i] = s.wait(r)
		}
	}

	return errs
}

func newRequest(class Class, records [][]byte) *request {
	size := 0
	for _, r := range records {
		size += len(r) + lineExtra
	}

	r := &request{
		lines:   make([]byte, 0, size),
		offsets: make([]int, len(records)),
		class:   class,
		done:    make(chan error, 1),
	}
	for i, record := range records {
		r.offsets[i] = len(r.lines)
		r.lines = appendLine(r.lines, record)
	}

	return r
}

func (s *Spool) send(ctx context.Context, r *request) error {
	select {
	case s.queue <- r:
		return nil
	case <-s.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait returns what became of a request that was sent.
func (s *Spool) wait(r *request) error {
	select {
	case err := <-r.done:
		return err
	case <-s.done:
	}

	select {
	case err := <-r.done:
		return err
	default:
		return ErrClosed
	}
}
