package main

import (
	"context"

	"postern/cmd/postern/health"
	"postern/relay/queue"
	"postern/tracking/ingest"
	"postern/tracking/spool"
)

// watchedQueue shows how long transactions take to become durable.
type watchedQueue struct {
	*queue.Queue
	work *health.Work
}

// Put implements relay.Queue.
func (q watchedQueue) Put(ctx context.Context, ts ...*queue.Transaction) error {
	defer q.work.Begin()()
	return q.Queue.Put(ctx, ts...)
}

// watchedSource shows how long cursors take to become durable.
type watchedSource struct {
	ingest.Source
	work *health.Work
}

// Commit implements ingest.Source.
func (s watchedSource) Commit(at spool.Position) error {
	defer s.work.Begin()()
	return s.Source.Commit(at)
}
