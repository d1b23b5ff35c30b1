package spool

import "context"

// Class says how much of a nearly full disk an append may use.
type Class int

const (
	// Ordinary appends leave the headroom of the disk and the reservations of
	// others alone.
	Ordinary Class = iota

	// Internal appends may use most of the headroom.
	Internal

	// Essential appends may use all that is free, and the room that Hold
	// allocated.
	Essential
)

// request is one append on its way through the writer.
type request struct {
	lines   []byte
	offsets []int // of the line of each record, within lines
	class   Class
	at      Position   // where lines begin, once they are durable
	done    chan error // receives the result
}

// Append appends records with the class of the configuration, and returns nil
// once all of them are fsynced. Records must not contain a newline. It returns
// ErrNoSpace if the disk is too full, and ErrClosed after Close.
//
// Records of one call are written together. If ctx ends while Append waits for
// its turn, nothing is written; after that Append does not return before the
// result is known.
func (s *Spool) Append(ctx context.Context, records ...[]byte) error {
	_, err := s.AppendAt(ctx, records...)

	return err
}

// AppendAt is like Append and returns the position of each record, for ReadAt.
func (s *Spool) AppendAt(ctx context.Context, records ...[]byte) ([]Position, error) {
	return s.AppendAs(ctx, s.cfg.Class, records...)
}

// AppendAs is like AppendAt, with a class.
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
		at[i] = Position{Segment: r.at.Segment, Offset: r.at.Offset + int64(o)}
	}

	return at, nil
}

// Group is a number of records that are appended together or not at all.
type Group struct {
	Class   Class
	Records [][]byte
}

// AppendGroups appends several groups with as few fsyncs as possible. It returns
// an error, or nil, for each group.
func (s *Spool) AppendGroups(ctx context.Context, groups []Group) []error {
	errs := make([]error, len(groups))
	requests := make([]*request, len(groups))
	for i, g := range groups {
		if len(g.Records) == 0 {
			continue
		}

		requests[i] = newRequest(g.Class, g.Records)
		if err := s.send(ctx, requests[i]); err != nil {
			requests[i] = nil
			errs[i] = err
		}
	}

	for i, r := range requests {
		if r != nil {
			errs[i] = s.wait(r)
		}
	}

	return errs
}

// newRequest encodes records.
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

// send queues a request for the writer.
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

// wait returns the result of a request that was sent. A writer that has ended
// may have answered it before.
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
