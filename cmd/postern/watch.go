package main

import (
	"context"
	"time"
)

// watchEvery is how often files are looked at that are taken when they change.
const watchEvery = 5 * time.Second

// renewEvery is how often the certificates of the local CA are looked at.
const renewEvery = 24 * time.Hour

// watchFiles takes the users file and the GeoIP database when they change, and
// renews certificates of the local CA, until ctx ends.
func (g *gateway) watchFiles(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()

	w := filesWatch{renewed: time.Now()}
	for {
		select {
		case <-tick.C:
			g.lookAtFiles(&w, time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// filesWatch is what watchFiles knows from one look to the next.
type filesWatch struct {
	users   usersWatch
	renewed time.Time // when the certificates of the local CA were looked at
}

// lookAtFiles is one round of watchFiles.
func (g *gateway) lookAtFiles(w *filesWatch, now time.Time) {
	defer g.rounds.Begin()()

	if now.Sub(w.renewed) > renewEvery {
		w.renewed = now
		g.renewLocal()
	}
	if n := g.live.Load(); n.geo != nil {
		n.geo.Refresh()
	}
	g.lookAtUsers(&w.users)
}

// renewLocal renews what the local CA has signed, where it runs out soon.
func (g *gateway) renewLocal() {
	g.reloading.Lock()
	defer g.reloading.Unlock()

	l := g.live.Load().c
	if g.certs == nil || l.Certs.Mode == "files" {
		return
	}

	cert, err := g.localCert(l)
	if err != nil {
		g.log.Error("certificate of the local CA not renewed", "err", err)
		return
	}
	if g.acme != nil {
		g.acme.UseInterim(cert)
		return
	}
	g.certs.Use(cert)
}

// checkTimeout is for one look at all that were away: one that takes the
// connection and says nothing must not hold up the others for long.
const checkTimeout = 30 * time.Second

// checkUpstreams looks after upstreams that were away.
func (g *gateway) checkUpstreams(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.probeUpstreams(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// probeUpstreams is one round of checkUpstreams.
func (g *gateway) probeUpstreams(ctx context.Context) {
	defer g.rounds.Begin()()

	c, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	g.live.Load().pool.Check(c)
	g.queue.Len() // which hangs where the queue does
}
