package spool

import "errors"

// Reservation is room for records that are to be appended, until Release. Its
// methods are safe for concurrent use.
type Reservation struct {
	s *Spool
	n int64
}

// Reserve reserves room for n bytes of records, or returns ErrNoSpace. It does
// not wait for room, but segments that every reader has passed are removed if
// that helps.
func (s *Spool) Reserve(n int64) (*Reservation, error) {
	err := s.disk.reserve(s, n)
	if errors.Is(err, ErrNoSpace) && s.disk.relieve(n) {
		err = s.disk.reserve(s, n)
	}
	if err != nil {
		return nil, err
	}

	return &Reservation{s: s, n: n}, nil
}

// Release gives the room back. Calling it again does nothing.
func (r *Reservation) Release() {
	r.s.mu.Lock()
	n := r.n
	r.n = 0
	r.s.mu.Unlock()

	r.s.disk.release(r.s, n)
}

// Err returns nil while ordinary records are accepted, and ErrNoSpace while the
// disk is too full for them.
func (s *Spool) Err() error {
	free, err := s.disk.Free()
	if err != nil {
		return err
	}

	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()

	if free-s.disk.promised() <= s.disk.floor(s) {
		return ErrNoSpace
	}

	return nil
}

// InternalRoom returns how many bytes may be appended now with class Internal.
func (s *Spool) InternalRoom() int64 {
	_, internal, err := s.disk.room(s)
	if err != nil {
		return 0
	}

	return max(0, internal)
}
