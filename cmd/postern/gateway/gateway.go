package gateway

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
	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/cmd/postern/health"
	"postern/cmd/postern/systemd"
	"postern/relay/queue"
	"postern/smtpd"
	"postern/tracking/accounting"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
	"postern/tracking/web"
)

// serveWithReload serves, and reloads on each signal, until ctx ends.
func (g *Gateway) ServeWithReload(ctx context.Context, hup <-chan os.Signal) error {
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
func (g *Gateway) reloadFor(n *systemd.Notifier) {
	n.Reloading()
	g.Reload()
	n.Send("READY=1")
}

// gateway is everything that `serve` runs, wired. What a reload can change is
// in live; the rest stays as it was at the start.
type Gateway struct {
	C          *config.Loaded
	log        *slog.Logger
	Level      *slog.LevelVar
	Reg        *prometheus.Registry
	disks      spool.Disks // one for each file system that is written to
	Spool      *spool.Spool
	Queue      *queue.Queue
	Budget     *smtpd.Budget // of submissions, and of what is retried
	Users      *smtpd.Users
	Certs      *certs.Store
	Acme       *certs.ACME // nil: not in that mode
	Smtp       *smtpd.Server
	Reports    *smtpd.Server    // nil: no domain for reports
	Uploader   *ingest.Uploader // nil: signals off
	Accounting *accounting.Follower
	Admin      *admin.Server
	ids        *event.IDs
	tracker    *http.Server
	webState   *web.State
	notifier   *systemd.Notifier
	Health     health.Registry
	Appends    health.Work // of events
	Puts       health.Work // of the retry spool
	Commits    health.Work // of the uploader's cursor
	Rounds     health.Work // of what looks after files and upstreams
	totals     admin.Totals
	submitted  prometheus.Histogram

	Connections config.Connections // of clients, at once
	Listeners   []net.Listener     // all, to close where the start fails

	StopBy atomic.Pointer[time.Time] // the end of shutdown_grace; nil: it has not begun

	reloading sync.Mutex
	Live      atomic.Pointer[live]

	Submission, SubmissionTLS, Web, Port25, AcmeHTTP, AcmeTLS []net.Listener
	AdminListeners, AdminSockets, PipeSockets                 []net.Listener
}

// newGateway builds everything and opens the listeners.
func New(l *config.Loaded, log *slog.Logger, level *slog.LevelVar) (g *Gateway, err error) {
	g = &Gateway{
		C:         l,
		log:       log,
		Level:     level,
		Reg:       prometheus.NewRegistry(),
		ids:       event.NewIDs(),
		webState:  web.NewState(),
		submitted: admin.NewSubmissionDuration(),
		notifier:  systemd.NewNotifier(os.Getenv),
	}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()

	setLevel(level, l.Config)
	g.Budget = smtpd.NewBudget(int64(l.MemoryBudget))
	g.Reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	g.Reg.MustRegister(&g.totals, admin.NewBuildInfo(), g.submitted)

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
		if g.Users, err = smtpd.NewUsers(smtpd.Rate(l.Submission.AuthFailureRate)); err != nil {
			return g, err
		}
	}

	first, err := g.build(l)
	if err != nil {
		return g, err
	}
	if err := g.Swap(first); err != nil {
		return g, err
	}

	if mail {
		g.newListener()
	}
	g.tracker = web.NewServer(g.TrackerHandler(), log)
	if l.Signals.Enabled {
		if err := g.newUploader(); err != nil {
			return g, err
		}
	}

	g.Admin = admin.New(g.Reg, g.AcceptsMail, g.Health.Check)
	g.Admin.EventRoutes(g.Spool)
	if mail {
		// A pipe may bring records at any time, so that there is always a follower.
		if g.Accounting, err = accounting.New(g.AccountingConfig()); err != nil {
			return g, err
		}
		g.Admin.QueueRoutes(g.Queue)
		admin.RegisterQueueAge(g.Reg, g.Queue)
	}

	g.watchHealth()
	return g, g.listen()
}

// close gives back what newGateway took.
func (g *Gateway) Close() {
	for _, l := range g.Listeners {
		l.Close()
	}
	if l := g.Live.Load(); l != nil && l.Pool != nil {
		l.Pool.Close()
	}
	if g.Acme != nil {
		g.Acme.Close()
	}
	if g.Uploader != nil {
		g.Uploader.Close()
	}
	if g.Queue != nil {
		g.Queue.Close()
	}
	if g.Spool != nil {
		g.Spool.Close()
	}
}

// graceLeft returns how much of shutdown_grace is left.
func (g *Gateway) GraceLeft() time.Duration {
	by := g.StopBy.Load()
	if by == nil { // a part that failed ends the start
		return 0
	}

	return max(0, time.Until(*by))
}

// lastGrace is for requests of which none is a recipient's: they do not hold up
// the end by more than a second.
func (g *Gateway) LastGrace() time.Duration { return min(time.Second, g.GraceLeft()) }

// Serve runs until ctx ends, then drains, all within shutdown_grace: first what
// takes things in, with the sessions and requests under way, then the uploads
// in flight. Events that were not uploaded stay on disk.
func (g *Gateway) Serve(ctx context.Context) error {
	defer g.Close()
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

	g.ServeFront(inner, func(what string, f func() error) { run(&front, what, f) })
	if err := g.ServeBack(background, func(what string, f func() error) { run(&back, what, f) }); err != nil {
		cancel()
		front.Wait()
		stopBackground()
		back.Wait()
		return err
	}

	g.Admin.Ready.Store(true)
	g.log.Info("postern is up",
		"submission", Addrs(g.Submission),
		"submission_tls", Addrs(g.SubmissionTLS),
		"tracker", Addrs(g.Web),
		"reports", Addrs(g.Port25),
		"admin", Addrs(g.AdminListeners),
		"admin_socket", Addrs(g.AdminSockets))
	g.notifier.Send("READY=1")
	back.Go(func() { g.notifier.ServeWatchdog(background, g.Health.Check, g.log) })

	<-inner.Done()
	by := time.Now().Add(g.C.ShutdownGrace.Std())
	g.StopBy.Store(&by)
	g.notifier.Send("STOPPING=1")
	g.Admin.Ready.Store(false)
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
func (g *Gateway) ServeFront(ctx context.Context, run runner) {
	for _, l := range g.Submission {
		run("submission", func() error { return g.Smtp.Serve(ctx, l) })
	}
	for _, l := range g.SubmissionTLS {
		run("submission", func() error { return g.Smtp.ServeTLS(ctx, l) })
	}
	for _, l := range g.Port25 {
		run("reports", func() error { return g.Reports.Serve(ctx, l) })
	}
	for _, l := range g.Web {
		run("tracker", func() error { return ServeHTTP(ctx, g.tracker, g.TrackerListener(l), g.C.ShutdownGrace.Std) })
	}

	if g.Queue != nil {
		run("upstream", func() error { g.checkUpstreams(ctx); return nil })
		run("retry spool", func() error { return g.Queue.Serve(ctx, g) })
	}

	if g.Accounting != nil {
		run("accounting", func() error { return g.Accounting.Serve(ctx) })
	}
	for _, l := range g.PipeSockets {
		run("accounting.pipe_socket", func() error { return accounting.HandOver(ctx, l, PipeDir(g.C.Config), g.log) })
	}
	if g.Accounting != nil && g.C.Accounting.Pipe {
		run("accounting.pipe", func() error { return g.ServePipe(ctx, os.Stdin) })
	}
}

// serveBack starts what goes on until nothing comes in any more.
func (g *Gateway) ServeBack(ctx context.Context, run runner) error {
	if g.Certs != nil {
		run("certificates", func() error { g.Certs.Watch(ctx, watchEvery); return nil })
	}
	if g.Acme != nil {
		g.ServeACME(ctx, run)
	}

	run("files", func() error { g.watchFiles(ctx); return nil })
	run("tracker's state", func() error { return g.webState.Serve(ctx, g.log) })
	if g.C.Role == config.All && g.C.Submission.Auth == "upstream" { // to know what it offers
		run("logins upstream", func() error { _ = g.Reachable(ctx); return nil })
	}

	for _, l := range g.AdminListeners {
		s := g.AdminServer(admin.NewHostGuard(g.Admin.Open, g.C.Config))
		run("admin", func() error { return ServeHTTP(ctx, s, l, g.LastGrace) })
	}

	for _, l := range g.AdminSockets {
		s := g.AdminServer(g.Admin.Mux)
		run("admin.socket", func() error { return ServeHTTP(ctx, s, l, g.LastGrace) })
	}

	if g.Uploader != nil {
		reader, err := g.Spool.Reader(IngestReader)
		if err != nil {
			return err
		}
		run("ingest", func() error { return g.Uploader.Serve(ctx, WatchedSource{Source: reader, Work: &g.Commits}) })
	}

	return nil
}

// adminServer has no bound on the time of an answer: profiles and the demo's
// stream take theirs.
func (g *Gateway) AdminServer(h http.Handler) *http.Server {
	s := web.NewServer(h, g.log)
	s.WriteTimeout = 0

	return s
}
