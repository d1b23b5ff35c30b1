package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"postern/certs"
	"postern/cmd/postern/config"
	"postern/cmd/postern/health"
	"postern/relay/queue"
	"postern/smtpd"
	"postern/tracking/accounting"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
	"postern/tracking/web"
)

// serveWithReload serves, and reloads on each signal, until ctx ends.
func (g *gateway) serveWithReload(ctx context.Context, hup <-chan os.Signal) error {
	inner, cancel := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for {
			select {
			case <-hup:
				g.reloadFor(g.notifier)
			case <-inner.Done():
				return
			}
		}
	})

	err := g.Serve(ctx)
	cancel()
	reloads.Wait()
	return err
}

// reloadFor reloads, and tells the service manager when it begins and ends.
func (g *gateway) reloadFor(n *notifier) {
	n.reloading()
	g.reload()
	n.send("READY=1")
}

// gateway is everything that `serve` runs, wired. What a reload can change is
// in live; the rest stays as it was at the start.
type gateway struct {
	c          *config.Loaded
	log        *slog.Logger
	level      *slog.LevelVar
	reg        *prometheus.Registry
	disks      spool.Disks // one for each file system that is written to
	spool      *spool.Spool
	queue      *queue.Queue
	budget     *smtpd.Budget // of submissions, and of what is retried
	users      *smtpd.Users
	certs      *certs.Store
	acme       *certs.ACME // nil: not in that mode
	smtp       *smtpd.Server
	reports    *smtpd.Server    // nil: no domain for reports
	uploader   *ingest.Uploader // nil: signals off
	accounting *accounting.Follower
	admin      *admin
	ids        *event.IDs
	tracker    *http.Server
	webState   *web.State
	notifier   *notifier
	health     health.Registry
	appends    health.Work // of events
	puts       health.Work // of the retry spool
	commits    health.Work // of the uploader's cursor
	rounds     health.Work // of what looks after files and upstreams
	totals     totals
	submitted  prometheus.Histogram

	connections config.Connections // of clients, at once
	listeners   []net.Listener     // all, to close where the start fails

	stopBy atomic.Pointer[time.Time] // the end of shutdown_grace; nil: it has not begun

	reloading sync.Mutex
	live      atomic.Pointer[live]

	submission, submissionTLS, web, port25, acmeHTTP, acmeTLS []net.Listener
	adminListeners, adminSockets, pipeSockets                 []net.Listener
}

// newGateway builds everything and opens the listeners.
func newGateway(l *config.Loaded, log *slog.Logger, level *slog.LevelVar) (g *gateway, err error) {
	g = &gateway{
		c:         l,
		log:       log,
		level:     level,
		reg:       prometheus.NewRegistry(),
		ids:       event.NewIDs(),
		webState:  web.NewState(),
		submitted: newSubmissionDuration(),
		notifier:  newNotifier(os.Getenv),
	}
	defer func() {
		if err != nil {
			g.close()
		}
	}()

	setLevel(level, l.Config)
	g.budget = smtpd.NewBudget(int64(l.MemoryBudget))
	g.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	g.reg.MustRegister(&g.totals, newBuildInfo(), g.submitted)

	if err := g.openSpools(); err != nil {
		return g, err
	}
	if err := g.limitConnections(); err != nil {
		return g, err
	}

	mail := l.Role == config.All
	if mail || l.Tracking.Web.TLS {
		if err := g.startCerts(); err != nil {
			return g, err
		}
	}
	if mail {
		if g.users, err = smtpd.NewUsers(smtpd.Rate(l.Submission.AuthFailureRate)); err != nil {
			return g, err
		}
	}

	first, err := g.build(l)
	if err != nil {
		return g, err
	}
	if err := g.swap(first); err != nil {
		return g, err
	}

	if mail {
		g.newListener()
	}
	g.tracker = web.NewServer(g.trackerHandler(), log)
	if l.Signals.Enabled {
		if err := g.newUploader(); err != nil {
			return g, err
		}
	}

	g.admin = newAdmin(g.reg, g.acceptsMail, g.health.Check)
	g.admin.eventRoutes(g.spool)
	if mail {
		// A pipe may bring records at any time, so that there is always a follower.
		if g.accounting, err = accounting.New(g.accountingConfig()); err != nil {
			return g, err
		}
		g.admin.queueRoutes(g.queue)
		registerQueueAge(g.reg, g.queue)
	}

	g.watchHealth()
	return g, g.listen()
}

// close gives back what newGateway took.
func (g *gateway) close() {
	for _, l := range g.listeners {
		l.Close()
	}
	if l := g.live.Load(); l != nil && l.pool != nil {
		l.pool.Close()
	}
	if g.acme != nil {
		g.acme.Close()
	}
	if g.uploader != nil {
		g.uploader.Close()
	}
	if g.queue != nil {
		g.queue.Close()
	}
	if g.spool != nil {
		g.spool.Close()
	}
}

// graceLeft returns how much of shutdown_grace is left.
func (g *gateway) graceLeft() time.Duration {
	by := g.stopBy.Load()
	if by == nil { // a part that failed ends the start
		return 0
	}

	return max(0, time.Until(*by))
}

// lastGrace is for requests of which none is a recipient's: they do not hold up
// the end by more than a second.
func (g *gateway) lastGrace() time.Duration { return min(time.Second, g.graceLeft()) }

// Serve runs until ctx ends, then drains, all within shutdown_grace: first what
// takes things in, with the sessions and requests under way, then the uploads
// in flight. Events that were not uploaded stay on disk.
func (g *gateway) Serve(ctx context.Context) error {
	defer g.close()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()

	var front, back sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	run := func(wg *sync.WaitGroup, what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				failed = append(failed, fmt.Errorf("%s: %w", what, err))
				mu.Unlock()
				cancel()
			}
		})
	}

	g.serveFront(inner, func(what string, f func() error) { run(&front, what, f) })
	if err := g.serveBack(background, func(what string, f func() error) { run(&back, what, f) }); err != nil {
		cancel()
		front.Wait()
		stopBackground()
		back.Wait()
		return err
	}

	g.admin.ready.Store(true)
	g.log.Info("postern is up",
		"submission", addrs(g.submission),
		"submission_tls", addrs(g.submissionTLS),
		"tracker", addrs(g.web),
		"reports", addrs(g.port25),
		"admin", addrs(g.adminListeners),
		"admin_socket", addrs(g.adminSockets))
	g.notifier.send("READY=1")
	back.Go(func() { g.notifier.serveWatchdog(background, g.health.Check, g.log) })

	<-inner.Done()
	by := time.Now().Add(g.c.ShutdownGrace.Std())
	g.stopBy.Store(&by)
	g.notifier.send("STOPPING=1")
	g.admin.ready.Store(false)
	g.log.Info("stopping")

	front.Wait()
	stopBackground()
	back.Wait()
	g.log.Info("stopped")
	return errors.Join(failed...)
}

// runner starts a part of the gateway; an error that it returns ends the whole.
type runner func(what string, f func() error)

// serveFront starts what takes things in, and ends first.
func (g *gateway) serveFront(ctx context.Context, run runner) {
	for _, l := range g.submission {
		run("submission", func() error { return g.smtp.Serve(ctx, l, false) })
	}
	for _, l := range g.submissionTLS {
		run("submission", func() error { return g.smtp.Serve(ctx, l, true) })
	}
	for _, l := range g.port25 {
		run("reports", func() error { return g.reports.Serve(ctx, l, false) })
	}
	for _, l := range g.web {
		run("tracker", func() error { return serveHTTP(ctx, g.tracker, g.trackerListener(l), g.c.ShutdownGrace.Std) })
	}

	if g.queue != nil {
		run("upstream", func() error { g.checkUpstreams(ctx); return nil })
		run("retry spool", func() error { return g.queue.Serve(ctx, g) })
	}

	if g.accounting != nil {
		run("accounting", func() error { return g.accounting.Serve(ctx) })
	}
	for _, l := range g.pipeSockets {
		run("accounting.pipe_socket", func() error { return accounting.HandOver(ctx, l, pipeDir(g.c.Config), g.log) })
	}
	if g.accounting != nil && g.c.Accounting.Pipe {
		run("accounting.pipe", func() error { return g.servePipe(ctx, os.Stdin) })
	}
}

// serveBack starts what goes on until nothing comes in any more.
func (g *gateway) serveBack(ctx context.Context, run runner) error {
	if g.certs != nil {
		run("certificates", func() error { g.certs.Watch(ctx, watchEvery); return nil })
	}
	if g.acme != nil {
		g.serveACME(ctx, run)
	}

	run("files", func() error { g.watchFiles(ctx); return nil })
	run("tracker's state", func() error { return g.webState.Serve(ctx, g.log) })
	if g.c.Role == config.All && g.c.Submission.Auth == "upstream" { // to know what it offers
		run("logins upstream", func() error { _ = g.Reachable(ctx); return nil })
	}

	for _, l := range g.adminListeners {
		s := g.adminServer(newHostGuard(g.admin.open, g.c.Config))
		run("admin", func() error { return serveHTTP(ctx, s, l, g.lastGrace) })
	}

	for _, l := range g.adminSockets {
		s := g.adminServer(g.admin.mux)
		run("admin.socket", func() error { return serveHTTP(ctx, s, l, g.lastGrace) })
	}

	if g.uploader != nil {
		reader, err := g.spool.Reader(ingestReader)
		if err != nil {
			return err
		}
		run("ingest", func() error { return g.uploader.Serve(ctx, watchedSource{reader, &g.commits}) })
	}

	return nil
}

// adminServer has no bound on the time of an answer: profiles and the demo's
// stream take theirs.
func (g *gateway) adminServer(h http.Handler) *http.Server {
	s := web.NewServer(h, g.log)
	s.WriteTimeout = 0

	return s
}
