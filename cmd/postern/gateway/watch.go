package gateway

import (
	"context"
	"time"
)

// watchEvery is how often files are looked at that are taken when they change.
const watchEvery = 5 * time.Second

// renewEvery is how often the certificates of the local CA are looked at.
const RenewEvery = 24 * time.Hour

// watchFiles takes the users file and the GeoIP database when they change, and
// renews certificates of the local CA, until ctx ends.
func (g *Gateway) watchFiles(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()

	w := FilesWatch{Renewed: time.Now()}
	for {
		select {
		case <-tick.C:
			g.LookAtFiles(&w, time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// filesWatch is what watchFiles knows from one look to the next.
type FilesWatch struct {
	users   UsersWatch
	Renewed time.Time // when the certificates of the local CA were looked at
}

// lookAtFiles is one round of watchFiles.
func (g *Gateway) LookAtFiles(w *FilesWatch, now time.Time) {
	defer g.Rounds.Begin()()

	if now.Sub(w.Renewed) > RenewEvery {
		w.Renewed = now
		g.RenewLocal()
	}
	if n := g.Live.Load(); n.geo != nil {
		n.geo.Refresh()
	}
	g.LookAtUsers(&w.users)
}

// renewLocal renews what the local CA has signed, where it runs out soon.
func (g *Gateway) RenewLocal() {
	g.reloading.Lock()
	defer g.reloading.Unlock()

	l := g.Live.Load().C
	if g.Certs == nil || l.Certs.Mode == "files" {
		return
	}

	cert, err := g.localCert(l)
	if err != nil {
		g.log.Error("certificate of the local CA not renewed", "err", err)
		return
	}
	if g.Acme != nil {
		g.Acme.UseInterim(cert)
		return
	}
	g.Certs.Use(cert)
}

// checkTimeout is for one look at all that were away: one that takes the
// connection and says nothing must not hold up the others for long.
const checkTimeout = 30 * time.Second

// checkUpstreams looks after upstreams that were away.
func (g *Gateway) checkUpstreams(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.ProbeUpstreams(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// probeUpstreams is one round of checkUpstreams.
func (g *Gateway) ProbeUpstreams(ctx context.Context) {
	defer g.Rounds.Begin()()

	c, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	g.Live.Load().Pool.Check(c)
	g.Queue.Len() // which hangs where the queue does
}
