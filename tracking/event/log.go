package event

import (
	"context"

	"postern/tracking/spool"
)

// Log puts events into an event spool. It is safe for concurrent use.
type Log struct {
	spool *spool.Spool
	begin func() (end func())
}

// NewLog returns the Log of a spool. begin is called when events begin to be
// appended, and what it returns when they are durable; nil: nobody asks.
func NewLog(s *spool.Spool, begin func() (end func())) *Log {
	if begin == nil {
		begin = func() func() { return func() {} }
	}

	return &Log{spool: s, begin: begin}
}

// Record appends events, and returns once they are durable.
func (l *Log) Record(ctx context.Context, events ...*Event) error {
	records := make([][]byte, len(events))
	for i, e := range events {
		b, err := e.Encode()
		if err != nil {
			return err
		}
		records[i] = b
	}

	defer l.begin()()
	return l.spool.Append(ctx, records...)
}

// Reserve keeps room for n bytes of events. The caller calls release once they
// are recorded, or are not to be.
func (l *Log) Reserve(n int64) (release func(), err error) {
	room, err := l.spool.Reserve(n)
	if err != nil {
		return nil, err
	}

	return room.Release, nil
}
