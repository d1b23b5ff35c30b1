package gateway

import (
	"context"

	"postern/cmd/postern/health"
	"postern/relay/queue"
	"postern/tracking/ingest"
	"postern/tracking/spool"
)

// watchedQueue shows how long transactions take to become durable.
type WatchedQueue struct {
	*queue.Queue
	Work *health.Work
}

// Put implements relay.Queue.
func (q WatchedQueue) Put(ctx context.Context, ts ...*queue.Transaction) error {
	defer q.Work.Begin()()
	return q.Queue.Put(ctx, ts...)
}

// watchedSource shows how long cursors take to become durable.
type WatchedSource struct {
	ingest.Source
	Work *health.Work
}

// Commit implements ingest.Source.
func (s WatchedSource) Commit(at spool.Position) error {
	defer s.Work.Begin()()
	return s.Source.Commit(at)
}
