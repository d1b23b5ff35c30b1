package gateway

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"postern/cmd/postern/health"
)

// How old the last sign of life of a part may be.
const (
	DiskBound   = 2 * time.Minute // an append, with its fsync
	AcceptBound = time.Minute     // from one connection to the next Accept
	RoundBound  = 5 * time.Minute // a round of what looks after things now and then
)

// watchHealth names the parts that have to show signs of life; the listeners
// are added when they are opened. Parts that say so themselves are asked.
func (g *Gateway) watchHealth() {
	g.Health.Watch("event spool", &g.Appends, DiskBound)
	g.Health.Watch("retry spool", &g.Puts, DiskBound)
	g.Health.Watch("cursor of uploads", &g.Commits, DiskBound)
	g.Health.Watch("files and upstreams", &g.Rounds, RoundBound)

	own := map[string]any{
		"event spool writer":  g.Spool,
		"retry spool's queue": g.Queue,
		"uploader":            g.Uploader,
	}
	for name, part := range own {
		if p, ok := part.(health.Part); ok && !reflect.ValueOf(part).IsNil() {
			g.Health.Watch(name, p, RoundBound)
		}
	}
}

// acceptsMail implements mailCheck: there is room for mail on the disk, and an
// upstream, or the queue that takes all mail in its place.
func (g *Gateway) AcceptsMail(ctx context.Context) (note string, err error) {
	if err := g.Spool.Err(); err != nil {
		return "", fmt.Errorf("event spool: %w", err)
	}
	if g.Queue != nil {
		if err := g.Queue.Err(); err != nil {
			return "", fmt.Errorf("retry spool: %w", err)
		}
	}

	err = g.Reachable(ctx)
	if err != nil && g.Live.Load().C.Relay.Queue == "always" {
		return "mail is queued, and cannot be handed on: " + err.Error(), nil
	}

	return "", err
}
