package gateway

import (
	"context"
	"time"

	"postern/cmd/postern/health"
)

// How old the last sign of life of a part may be.
const (
	diskBound   = 2 * time.Minute // an append, with its fsync
	acceptBound = time.Minute     // from one connection to the next Accept
	roundBound  = 5 * time.Minute // a round of what looks after things now and then
)

// readiness returns an error where a part cannot take mail now, and a note of
// what is wrong where it can all the same.
type readiness func(ctx context.Context) (note string, err error)

// acceptsMail asks every part whether mail can be taken.
func (g *Gateway) acceptsMail(ctx context.Context) (note string, err error) {
	for _, r := range g.readiness {
		n, err := r(ctx)
		if err != nil {
			return "", err
		}
		if n != "" {
			note = n
		}
	}

	return note, nil
}

// watchEvery is how often files and upstreams are looked at.
const watchEvery = 5 * time.Second

// everyRound adds what is done in every round of looking after things.
func (g *Gateway) everyRound(f func(ctx context.Context)) { g.rounds = append(g.rounds, f) }

// addRounds adds the component that looks after files in rounds.
func (g *Gateway) addRounds() {
	g.add(carryOn, "files", g.newRounds(g.rounds...))
}

// newRounds returns a Serve function that calls each f now and then.
func (g *Gateway) newRounds(fs ...func(ctx context.Context)) func(ctx context.Context) error {
	work := &health.Work{}
	g.health.Watch("files and upstreams", work, roundBound)

	return func(ctx context.Context) error {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()

		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}

			end := work.Begin()
			for _, f := range fs {
				f(ctx)
			}
			end()
		}
	}
}
