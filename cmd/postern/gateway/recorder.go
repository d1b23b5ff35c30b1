package gateway

import (
	"context"

	"postern/cmd/postern/health"
	"postern/tracking/event"
	"postern/tracking/spool"
)

// recorder puts events into the spool for the relay and the tracker.
type Recorder struct {
	Spool *spool.Spool
	work  *health.Work // appends that are under way; nil: nobody asks
}

// Record implements relay.Recorder and web.Recorder.
func (r Recorder) Record(ctx context.Context, events ...*event.Event) error {
	records := make([][]byte, len(events))
	for i, e := range events {
		b, err := e.Encode()
		if err != nil {
			return err
		}
		records[i] = b
	}

	if r.work != nil {
		defer r.work.Begin()()
	}
	return r.Spool.Append(ctx, records...)
}

// Reserve implements relay.Recorder.
func (r Recorder) Reserve(n int64) (release func(), err error) {
	room, err := r.Spool.Reserve(n)
	if err != nil {
		return nil, err
	}
	return room.Release, nil
}
