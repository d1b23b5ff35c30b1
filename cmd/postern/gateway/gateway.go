// Package gateway runs what `postern serve` runs. It wires the other packages:
// each file here turns one section of the configuration into one part of the
// process, and adds what that part needs.
//
// A Gateway is a list of components, each with a name and a Serve function, of
// which a tracker has fewer. What a reload can change is built anew, as a whole,
// by the parts that implement reloadable; everything else stays as it was at the
// start.
//
// Components end in two stages. What takes things in (listeners, the retry
// spool, accounting files) ends first, with the sessions and requests that are
// under way. What carries on (uploads, certificates, the admin listener) follows,
// all within shutdown_grace.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/cmd/postern/health"
	"postern/cmd/postern/systemd"
	"postern/tracking/spool"
)

// Gateway is a running configuration. Its methods are safe for concurrent use,
// except that Serve is called once.
type Gateway struct {
	cfg      *config.Loaded // as at the start
	log      *slog.Logger
	level    *slog.LevelVar
	reg      *prometheus.Registry
	totals   admin.Totals
	health   health.Registry
	notifier *systemd.Notifier
	admin    *admin.Server
	disks    spool.Disks // one for each file system that is written to

	connections config.Connections // of clients, at once

	components  []component
	bindings    []binding
	sockets     []socket
	reloadables []reloadable
	rounds      []func(ctx context.Context)
	readiness   []readiness
	closers     []func()

	listeners []net.Listener        // all that are open
	addrs     map[string][]net.Addr // of the listeners, by key

	reloading sync.Mutex
	current   atomic.Pointer[generation]
	stopBy    atomic.Pointer[time.Time] // the end of shutdown_grace; nil: it has not begun
}

// New builds the parts of a configuration and opens their listeners. Nothing is
// served before Serve is called. Where it returns an error, everything that was
// opened is closed again.
func New(cfg *config.Loaded, log *slog.Logger, level *slog.LevelVar) (*Gateway, error) {
	g := newGateway(cfg, log, level)
	if err := g.start(); err != nil {
		return nil, err
	}

	return g, nil
}

// newGateway returns a gateway without parts.
func newGateway(cfg *config.Loaded, log *slog.Logger, level *slog.LevelVar) *Gateway {
	g := &Gateway{
		cfg:      cfg,
		log:      log,
		level:    level,
		reg:      prometheus.NewRegistry(),
		notifier: systemd.NewNotifier(os.Getenv),
		addrs:    map[string][]net.Addr{},
	}
	g.admin = admin.New(g.reg, g.acceptsMail, g.health.Check)

	return g
}

// start wires the parts, in the order in which they need each other, puts the
// first generation of what a reload changes to use, and opens the listeners.
// Where it fails, nothing stays open.
func (g *Gateway) start() (err error) {
	defer func() {
		if err != nil {
			g.close()
		}
	}()

	setLevel(g.level, g.cfg.Config)
	g.reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&g.totals,
		admin.NewBuildInfo(),
	)

	if err := g.wire(); err != nil {
		return err
	}
	first, err := g.prepare(g.cfg)
	if err != nil {
		return err
	}
	g.use(first)

	return g.listen()
}

// Registry is where the gateway's metrics are registered.
func (g *Gateway) Registry() *prometheus.Registry { return g.reg }

// Admin is the operators' side, for pages that belong beside it.
func (g *Gateway) Admin() *admin.Server { return g.admin }

// Addr returns the address of the first listener of a key of the configuration,
// for example "submission.listen", or nil where there is none.
func (g *Gateway) Addr(key string) net.Addr {
	if list := g.addrs[key]; len(list) > 0 {
		return list[0]
	}

	return nil
}

// onClose adds what gives back something at the end, the last one first.
func (g *Gateway) onClose(f func()) { g.closers = append(g.closers, f) }

// close gives back everything that start took.
func (g *Gateway) close() {
	for _, l := range g.listeners {
		l.Close()
	}
	for i := len(g.closers) - 1; i >= 0; i-- {
		g.closers[i]()
	}
}

// graceLeft returns how much of shutdown_grace is left.
func (g *Gateway) graceLeft() time.Duration {
	by := g.stopBy.Load()
	if by == nil { // a component that failed ends the start
		return 0
	}

	return max(0, time.Until(*by))
}

// lastGrace is for requests of which none is a recipient's: they delay the end
// by a second at most.
func (g *Gateway) lastGrace() time.Duration { return min(time.Second, g.graceLeft()) }

// Serve runs the components until ctx ends or one of them fails, then drains
// within shutdown_grace. Events that were not uploaded stay on disk.
func (g *Gateway) Serve(ctx context.Context) error {
	defer g.close()

	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()

	front := newGroup(inner, cancel)
	back := newGroup(background, cancel)
	for _, c := range g.components {
		switch c.stage {
		case intake:
			front.run(c)
		case carryOn:
			back.run(c)
		}
	}

	g.announce()
	back.run(component{serve: func(ctx context.Context) error {
		g.notifier.ServeWatchdog(ctx, g.health.Check, g.log)
		return nil
	}})

	<-inner.Done()
	g.beginStop()
	frontErr := front.wait()
	stopBackground()
	backErr := back.wait()
	g.log.Info("stopped")

	return errors.Join(frontErr, backErr)
}

// announce says that everything is served.
func (g *Gateway) announce() {
	g.admin.Ready.Store(true)
	g.log.Info("postern is up",
		"submission", g.addrsOf("submission.listen"),
		"submission_tls", g.addrsOf("submission.listen_tls"),
		"tracker", g.addrsOf("tracking.web.listen"),
		"reports", g.addrsOf("reports.listen"),
		"admin", g.addrsOf("admin.listen"),
		"admin_socket", g.addrsOf("admin.socket"))
	g.notifier.Send("READY=1")
}

func (g *Gateway) addrsOf(key string) []string {
	var out []string
	for _, a := range g.addrs[key] {
		out = append(out, a.String())
	}

	return out
}

// beginStop starts shutdown_grace.
func (g *Gateway) beginStop() {
	by := time.Now().Add(g.cfg.ShutdownGrace.Std())
	g.stopBy.Store(&by)
	g.notifier.Send("STOPPING=1")
	g.admin.Ready.Store(false)
	g.log.Info("stopping")
}

// ServeWithReload is Serve with a reload of the configuration on each signal.
func (g *Gateway) ServeWithReload(ctx context.Context, hup <-chan os.Signal) error {
	inner, cancel := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for {
			select {
			case <-hup:
				g.notifier.Reloading()
				g.reload()
				g.notifier.Send("READY=1")
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

// wire adds the parts of the gateway. A tracker has no part in mail.
func (g *Gateway) wire() error {
	if err := g.limitConnections(); err != nil {
		return err
	}
	g.addAdmin()
	events, err := g.addEvents()
	if err != nil {
		return err
	}

	mail := g.cfg.Role == config.All
	var tls *certificates
	if mail || g.cfg.Tracking.Web.TLS {
		if tls, err = g.addCertificates(); err != nil {
			return err
		}
	}
	if mail {
		if err := g.addMail(events, tls); err != nil {
			return err
		}
	}
	g.addTracker(events, tls)
	if err := g.addUploader(events); err != nil {
		return err
	}
	if mail {
		if err := g.addAccounting(events); err != nil {
			return err
		}
	}

	g.addRounds()
	return nil
}

// named puts the name of a component or a key in front of its error.
func named(name string, err error) error {
	if err == nil || name == "" {
		return err
	}

	return fmt.Errorf("%s: %w", name, err)
}
