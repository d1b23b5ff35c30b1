package main

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"postern/cmd/postern/health"
)

// How old the last sign of life of a part may be.
const (
	diskBound   = 2 * time.Minute // an append, with its fsync
	acceptBound = time.Minute     // from one connection to the next Accept
	roundBound  = 5 * time.Minute // a round of what looks after things now and then
)

// watchHealth names the parts that have to show signs of life; the listeners
// are added when they are opened. Parts that say so themselves are asked.
func (g *gateway) watchHealth() {
	g.health.Watch("event spool", &g.appends, diskBound)
	g.health.Watch("retry spool", &g.puts, diskBound)
	g.health.Watch("cursor of uploads", &g.commits, diskBound)
	g.health.Watch("files and upstreams", &g.rounds, roundBound)

	own := map[string]any{
		"event spool writer":  g.spool,
		"retry spool's queue": g.queue,
		"uploader":            g.uploader,
	}
	for name, part := range own {
		if p, ok := part.(health.Part); ok && !reflect.ValueOf(part).IsNil() {
			g.health.Watch(name, p, roundBound)
		}
	}
}

// acceptsMail implements mailCheck: there is room for mail on the disk, and an
// upstream, or the queue that takes all mail in its place.
func (g *gateway) acceptsMail(ctx context.Context) (note string, err error) {
	if err := g.spool.Err(); err != nil {
		return "", fmt.Errorf("event spool: %w", err)
	}
	if g.queue != nil {
		if err := g.queue.Err(); err != nil {
			return "", fmt.Errorf("retry spool: %w", err)
		}
	}

	err = g.Reachable(ctx)
	if err != nil && g.live.Load().c.Relay.Queue == "always" {
		return "mail is queued, and cannot be handed on: " + err.Error(), nil
	}

	return "", err
}
