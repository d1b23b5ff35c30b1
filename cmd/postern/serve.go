package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"postern/certs"
	"postern/cmd/postern/config"
	"postern/cmd/postern/health"
	"postern/relay"

	"postern/relay/queue"
	"postern/relay/reply"
	"postern/smtpd"
	"postern/smtpd/auth"
	"postern/tracking/accounting"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
	"postern/tracking/web"
)

type serveCmd struct {
	configFile
	Role string `enum:"all,tracker" default:"all" help:"tracker: the links alone, with the key file and a spool; many may run behind a balancer."`
}

func (c *serveCmd) Help() string { return "Example: postern serve --config ./postern.toml" }

func (c *serveCmd) Run(e *env) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // first: until then it would end the process
	defer signal.Stop(hup)

	l, problems := c.read(config.Role(c.Role))
	level := new(slog.LevelVar)
	out := e.useLog(logConfig(l.Log, level))
	for _, p := range problems {
		fmt.Fprintln(e.stderr, p)
	}
	if n := len(problems.Fatal()); n > 0 {
		return fmt.Errorf("%d problems in the configuration", n)
	}

	slog.SetDefault(out.Logger()) // libraries that know no other log must not block either
	g, err := newGateway(l, out.Logger(), level)
	if err != nil {
		return err
	}
	out.Register(g.reg)

	boundHeap(heapBudget(l.Config))
	return g.serveWithReload(e.ctx, hup)
}

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

// besidesMessages is room for what is not a message in flight: thousands of idle
// sessions, the key sets, batches of events, the runtime itself.
const besidesMessages = 256 << 20

// boundHeap has the collector run before garbage grows the process past what
// memory_budget speaks of; without it large messages leave as much garbage as
// they take. The operator's own GOMEMLIMIT comes first. 0 is no limit.
func boundHeap(budget int64) {
	if budget > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(budget + besidesMessages)
	}
}

// heapBudget is the memory of all messages in flight; 0 is no limit.
func heapBudget(c *config.Config) int64 {
	total := int64(c.MemoryBudget)
	if total > 0 && c.Reports.On() {
		total += int64(c.Reports.MemoryBudget)
	}

	return total
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
	users      *auth.Users
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

const ingestReader = "ingest"

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
		if g.users, err = auth.NewUsers(auth.Rate(l.Submission.AuthFailureRate)); err != nil {
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

// trackerHandler serves the tracker of the configuration in use, and answers
// ACME's challenges.
func (g *gateway) trackerHandler() http.Handler {
	tracker := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.live.Load().web.ServeHTTP(w, r)
	})
	if g.acme != nil {
		return g.acme.HTTPHandler(tracker)
	}

	return tracker
}

func (g *gateway) newUploader() error {
	c, err := g.ingestConfig()
	if err != nil {
		return err
	}

	g.uploader, err = ingest.New(c)
	return err
}

// ingestConfig is [signals].
func (g *gateway) ingestConfig() (ingest.Config, error) {
	s := g.c.Signals
	reported, err := event.Select(s.Report)
	if err != nil {
		return ingest.Config{}, fmt.Errorf("signals.report: %w", err)
	}
	disk, err := g.disks.Of(g.eventsDir())
	if err != nil {
		return ingest.Config{}, err
	}

	return ingest.Config{
		Dir:  g.eventsDir(),
		From: spool.Cursor(g.eventsDir(), ingestReader),
		Disk: disk,
		Sink: &ingest.Signals{
			URL:    string(s.UploadURL),
			APIKey: string(s.APIKey),
		},
		BatchBytes: int(s.BatchSize),
		BatchAge:   s.BatchAge.Std(),
		Report:     reported,
		HashRcpt:   s.PrivacyPolicy == "sha1",
		KeepLedger: s.KeepLedger.Std(),
		Machines: map[string]string{
			event.Prefetch: s.Prefetch,
			event.Scanner:  s.Scanner,
		},
		Verbose:      s.LogVerbose,
		PollOutcomes: s.PollOutcomes,
		Grace:        g.graceLeft,
		Log:          g.log,
		Metrics:      g.reg,
	}, nil
}

// accountingConfig is [accounting].
func (g *gateway) accountingConfig() accounting.Config {
	a := g.c.Accounting
	return accounting.Config{
		Globs:   a.Files,
		Dir:     filepath.Join(g.c.StateDir, "accounting"),
		PipeDir: pipeDir(g.c.Config),
		DropDir: a.PipeDir,
		Settings: accounting.Settings{
			Classes:         a.BounceClass,
			Verify:          g.ourID,
			MessageIDHeader: g.messageIDHeader,
		},
		Events:  g.recorder(),
		Log:     g.log,
		Metrics: g.reg,
	}
}

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

// limitConnections holds the connections of clients to what the limit of open
// files allows.
func (g *gateway) limitConnections() error {
	limit, err := config.DescriptorLimit()
	if err != nil {
		return err
	}

	c, problems := g.c.Connections(limit)
	if fatal := problems.Fatal(); len(fatal) > 0 {
		return fatal
	}
	for _, p := range problems {
		g.log.Warn("fewer connections than configured", "problem", p.Error())
	}
	g.connections = c

	limits := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "postern_connections_limit",
		Help: "Connections that a listener accepts at once, as far as the limit of open files allows.",
	}, []string{"listener"})
	limits.WithLabelValues("submission").Set(float64(c.Submission))
	limits.WithLabelValues("reports").Set(float64(c.Reports))
	limits.WithLabelValues("tracker").Set(float64(c.Tracker))
	g.reg.MustRegister(limits)
	return nil
}

// checkDescriptors warns where a reload wants more connections upstream than
// were left for them at the start.
func (g *gateway) checkDescriptors(l *config.Loaded) {
	limit, err := config.DescriptorLimit()
	if err != nil {
		return
	}

	c, _ := l.Connections(limit)
	if c.Submission < g.connections.Submission || c.Reports < g.connections.Reports || c.Tracker < g.connections.Tracker {
		g.log.Warn("relay.max_connections leaves too few descriptors for the connections of clients, "+
			"whose limits change at the next start", "open_files", limit)
	}
}

// recorder returns what puts events into the spool.
func (g *gateway) recorder() recorder { return recorder{spool: g.spool, work: &g.appends} }

func (g *gateway) eventsDir() string { return eventsDir(g.c.Config) }

func eventsDir(c *config.Config) string { return filepath.Join(c.StateDir, "events") }

// messageIDHeader is the field that holds message ids now: a reload may change it.
func (g *gateway) messageIDHeader() string { return string(g.live.Load().c.Relay.MessageIDHeader) }

// ourID tells whether a message id verifies under the keys in use.
func (g *gateway) ourID(id string) bool {
	_, err := g.live.Load().keys.ParseID(id)
	return err == nil
}

func (g *gateway) openSpools() error {
	c, err := g.eventSpoolConfig()
	if err != nil {
		return err
	}
	if g.spool, err = spool.Open(c); err != nil {
		return err
	}
	g.reg.MustRegister(newBacklogMetrics(g.spool, c.Readers))
	if g.c.Role == config.Tracker {
		return nil
	}

	qc, err := g.queueConfig()
	if err != nil {
		return err
	}
	g.queue, err = queue.Open(qc)
	return err
}

// eventSpoolConfig is where events wait for the uploader.
func (g *gateway) eventSpoolConfig() (spool.Config, error) {
	disk, err := g.disks.Of(g.eventsDir())
	if err != nil {
		return spool.Config{}, err
	}

	c := spool.Config{
		Dir:     g.eventsDir(),
		Disk:    disk,
		MinFree: uint64(g.c.Signals.MinFreeSpace),
		Keep:    g.c.Events.Keep.Std(),
		Log:     g.log,
		Metrics: g.reg,
	}
	if g.c.Signals.Enabled {
		c.Readers = []string{ingestReader}
	}

	return c, nil
}

// queueConfig is the retry spool.
func (g *gateway) queueConfig() (queue.Config, error) {
	dir := filepath.Join(g.c.StateDir, "queue")
	disk, err := g.disks.Of(dir)
	if err != nil {
		return queue.Config{}, err
	}

	var pauses []time.Duration
	for _, d := range g.c.Relay.RetryAfter {
		pauses = append(pauses, d.Std())
	}

	return queue.Config{
		Dir:         dir,
		Disk:        disk,
		RetryAfter:  pauses,
		BounceAfter: g.c.Relay.BounceAfter.Std(),
		Grace:       g.c.ShutdownGrace.Std(),
		Budget:      g.budget,
		Log:         g.log,
		Metrics:     g.reg,
	}, nil
}

// authenticator is submission.auth.
func (g *gateway) authenticator() auth.Authenticator {
	if g.c.Submission.Auth != "upstream" {
		return g.users
	}

	return auth.NewPassthrough(auth.PassthroughConfig{
		Users:       g.users,
		DefaultUser: g.c.Submission.DefaultUser,
		Rate:        auth.Rate(g.c.Submission.AuthFailureRate),
		Offered:     func() ([]string, bool) { return g.live.Load().pool.Mechanisms() },
		Login:       g.loginUpstream,
	})
}

// loginUpstream logs a client in at an upstream.
func (g *gateway) loginUpstream(
	ctx context.Context, user, password string,
) (relay.Sender, func(), reply.Reply, error) {
	l, answer, err := g.live.Load().pool.Login(ctx, user, password)
	if l == nil {
		return nil, nil, answer, err
	}

	return l, l.Close, answer, err
}

// newListener makes the servers of submission and of reports.
func (g *gateway) newListener() {
	g.budget.Register(g.reg, "postern_memory_budget_used_bytes", "Of memory_budget, reserved by messages in flight.")
	g.smtp = smtpd.NewSubmission(g.submissionConfig(), g.submissionPolicy())
	if !g.c.Reports.On() {
		return
	}

	c := g.reportsConfig()
	c.Budget.Register(g.reg, "postern_reports_memory_budget_used_bytes",
		"Of reports.memory_budget, reserved by messages in flight.")
	g.reports = smtpd.NewReports(c, g)
}

// submissionPolicy is who may submit, as [submission] has it.
func (g *gateway) submissionPolicy() smtpd.Submission {
	c := g.c.Submission
	var sources []smtpd.SourceRule
	for _, r := range c.Sources {
		sources = append(sources, smtpd.SourceRule{
			Network:     netip.Prefix(r.Network),
			RequireAuth: r.RequireAuth,
			User:        r.User,
		})
	}

	return smtpd.Submission{
		RequireTLS: c.RequireTLS,
		Auth:       g.authenticator(),
		Submit:     g,
		Sources:    sources,
		Directory:  g.users,
	}
}

// submissionConfig is the rest of [submission].
func (g *gateway) submissionConfig() smtpd.Config {
	c := g.c.Submission

	return smtpd.Config{
		Hostname:  string(g.c.Hostname),
		TLS:       g.certs.Config(false),
		ProxyFrom: prefixes(c.ProxyProtocolFrom),
		Budget:    g.budget,
		Limits: smtpd.Limits{
			MaxMessageSize:          int64(c.MaxMessageSize),
			MaxRecipients:           c.MaxRecipients,
			MaxConnections:          g.connections.Submission,
			MaxConnectionsPerSource: g.connections.PerSource,
		},
		Timeouts: smtpd.Timeouts{
			Idle:    c.IdleTimeout.Std(),
			Message: c.MessageTimeout.Std(),
			Grace:   g.c.ShutdownGrace.Std(),
		},
		NormaliseLF: c.BareNewlines == "normalise",
		Log:         g.log,
		Metrics:     g.reg,
	}
}

// reportsConfig is [reports], with what it has of [submission].
func (g *gateway) reportsConfig() smtpd.Config {
	c := g.submissionConfig()
	c.Limits.MaxConnections = g.connections.Reports
	c.Limits.MaxMessageSize = int64(g.c.Reports.MaxMessageSize)
	c.Budget = smtpd.NewBudget(int64(g.c.Reports.MemoryBudget))
	// Mail systems of all kinds report; what they send goes nowhere, so that a
	// bare LF can do no harm.
	c.NormaliseLF = true

	return c
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
		run("submission", func() error { return g.smtp.Serve(ctx, l) })
	}
	for _, l := range g.submissionTLS {
		run("submission", func() error { return g.smtp.ServeTLS(ctx, l) })
	}
	for _, l := range g.port25 {
		run("reports", func() error { return g.reports.Serve(ctx, l) })
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
