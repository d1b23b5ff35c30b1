package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"postern/certs"
	"postern/cmd/postern/config"
	"postern/dkim"
	"postern/relay"
	"postern/relay/queue"
	"postern/relay/upstream"
	"postern/smtpd"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
	"postern/tracking/token"
	"postern/tracking/web"
)

type serveCmd struct {
	Config string `required:"" type:"path" help:"The configuration file." placeholder:"FILE"`
}

func (c *serveCmd) Help() string { return "Example: postern serve --config /etc/postern/postern.toml" }

func (c *serveCmd) Run(e *env) error {
	l, problems := config.Load(c.Config)
	for _, p := range problems {
		fmt.Fprintln(e.stderr, p)
	}
	if n := len(problems.Fatal()); n > 0 {
		return fmt.Errorf("%d problems in the configuration", n)
	}
	log := newLog(e.stderr, l.Log)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go func() {
		for range hup {
			log.Warn("SIGHUP: reload is not built yet, the configuration stays as it was read at the start")
		}
	}()
	g, err := newGateway(l, log)
	if err != nil {
		return err
	}
	return g.Serve(e.ctx)
}

// gateway is everything that `serve` runs, wired.
type gateway struct {
	c         *config.Loaded
	log       *slog.Logger
	spool     *spool.Spool
	pool      *upstream.Pool
	queue     *queue.Queue
	relay     *relay.Relay
	smtp      *smtpd.Server
	uploader  *ingest.Uploader // nil: signals off
	admin     *admin
	tracker   *http.Server
	tls       *tls.Config
	listeners []net.Listener // all, to close where the start fails

	submission, submissionTLS, web []net.Listener
	adminListener                  net.Listener
}

const ingestReader = "ingest"

// newGateway builds everything and opens the listeners.
func newGateway(l *config.Loaded, log *slog.Logger) (g *gateway, err error) {
	g = &gateway{c: l, log: log}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if g.tls, err = g.certificates(); err != nil {
		return g, err
	}
	keys, err := token.ReadKeys(l.Tracking.KeyFile)
	if err != nil {
		return g, err
	}
	var readers []string
	if l.Signals.Enabled {
		readers = append(readers, ingestReader)
	}
	if g.spool, err = spool.Open(spool.Config{Dir: filepath.Join(l.StateDir, "events"), Keep: l.Events.Keep.Std(),
		Readers: readers, Log: log, Metrics: reg}); err != nil {
		return g, err
	}
	ids, rec := event.NewIDs(), recorder{g.spool}
	if err := g.relayAndListener(reg, keys, ids, rec); err != nil {
		return g, err
	}
	handler := web.New(web.Config{Keys: keys, Events: rec, IDs: ids, Expiry: l.Tracking.LinkExpiry.Std(), ExpiredURL: string(l.Tracking.Web.ExpiredURL),
		TrustedProxies: prefixes(l.Tracking.Web.TrustedProxies), Log: log, Metrics: reg, Now: time.Now})
	g.tracker = web.NewServer(handler, log)
	if l.Signals.Enabled {
		g.uploader = ingest.New(ingest.Config{URL: string(l.Signals.UploadURL), APIKey: string(l.Signals.APIKey),
			BatchBytes: int(l.Signals.BatchSize), BatchAge: l.Signals.BatchAge.Std(), Log: log, Metrics: reg})
	}
	g.admin = newAdmin(reg, g.pool.Ping)
	g.admin.queueRoutes(g.queue)
	return g, g.listen()
}

func prefixes(ps []config.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(ps))
	for i, p := range ps {
		out[i] = netip.Prefix(p)
	}
	return out
}

func (g *gateway) certificates() (*tls.Config, error) {
	c := g.c.Certs
	version := uint16(tls.VersionTLS12)
	if c.MinVersion == "1.3" {
		version = tls.VersionTLS13
	}
	var cert tls.Certificate
	var err error
	if c.Mode == "self-signed" {
		cert, err = certs.SelfSigned(filepath.Join(g.c.StateDir, "certs"), string(g.c.Hostname), time.Now())
	} else {
		cert, err = certs.Files(c.CertFile, c.KeyFile)
	}
	if err != nil {
		return nil, err
	}
	return certs.ServerConfig(cert, version), nil
}

// relayAndListener wires the way of a message: submission, relay, upstream.
func (g *gateway) relayAndListener(reg *prometheus.Registry, keys *token.Keys, ids *event.IDs, rec recorder) error {
	c := g.c
	var signing []dkim.Key
	for _, k := range c.DKIM.Keys {
		key, err := dkim.ReadKey(k.Domain, k.Selector, k.KeyFile)
		if err != nil {
			return err
		}
		fast, err := key.Fast(dkim.RSAMode(c.DKIM.RSA))
		if err != nil {
			g.log.Warn("RSA signs with crypto/rsa", "domain", k.Domain, "selector", k.Selector, "err", err)
		}
		fast.NotBefore, fast.NotAfter, fast.Successor = k.NotBefore.Time, k.NotAfter.Time, k.Successor
		signing = append(signing, fast)
	}
	up := upstream.Config{Hostname: string(c.Hostname), TLS: upstream.TLSMode(c.Relay.TLS), Username: c.Relay.Username, Password: c.Relay.Password,
		MaxConnections: c.Relay.MaxConnections, MaxMessages: c.Relay.MaxMessages, Log: g.log, Metrics: reg,
		Timeouts: upstream.Timeouts{Connect: c.Relay.Timeouts.Connect.Std(), Greeting: c.Relay.Timeouts.Greeting.Std(), Command: c.Relay.Timeouts.Command.Std(),
			Data: c.Relay.Timeouts.Data.Std(), FinalDot: c.Relay.Timeouts.FinalDot.Std()}}
	for _, a := range c.Relay.Upstream {
		up.Addrs = append(up.Addrs, string(a))
	}
	if c.Relay.CAFile != "" {
		pool, err := certs.ReadPool(c.Relay.CAFile)
		if err != nil {
			return err
		}
		up.RootCAs = pool
	}
	g.pool = upstream.New(up)
	var pauses []time.Duration
	for _, d := range c.Relay.RetryAfter {
		pauses = append(pauses, d.Std())
	}
	var err error
	if g.queue, err = queue.Open(queue.Config{Dir: filepath.Join(c.StateDir, "queue"), RetryAfter: pauses, BounceAfter: c.Relay.BounceAfter.Std(),
		Grace: c.ShutdownGrace.Std(), Log: g.log, Metrics: reg}); err != nil {
		return err
	}
	rc := relay.Config{
		Hostname: string(c.Hostname), Received: c.Submission.ReceivedHeader, PowerMTA: c.Relay.UpstreamKind == "powermta",
		Headers: relay.HeaderNames{MessageID: string(c.Relay.MessageIDHeader), Job: string(c.Relay.JobHeader),
			VirtualMTA: string(c.Relay.VirtualMTAHeader), Subaccount: string(c.Relay.SubaccountHeader)},
		Tracking: relay.Tracking{URL: string(c.Tracking.URL), Open: c.Tracking.Open, InitialOpen: c.Tracking.InitialOpen, Click: c.Tracking.Click},
		Keys:     keys, Signer: dkim.NewSigner(signing), Upstream: g.pool, Events: rec, IDs: ids, Queue: g.queue, QueueAlways: c.Relay.Queue == "always",
		AnswerWithin: c.Relay.AnswerWithin.Std(), MsysAPI: c.Relay.MsysAPI, VERPDomain: c.Relay.VERPDomain, MaxRecipients: c.Submission.MaxRecipients,
		ListUnsubscribe: c.Tracking.ListUnsub, MaxLinkLength: c.Tracking.MaxLinkLength, Convert8Bit: c.Relay.Convert8Bit,
		RequireSignature: c.DKIM.Require, SignatureLife: c.DKIM.Expire.Std(), Log: g.log, Metrics: reg,
	}
	addRoutes(&rc, c.Config)
	g.relay = relay.New(rc)
	users, err := smtpd.NewUsers(smtpd.Rate(c.Submission.AuthFailureRate))
	if err != nil {
		return err
	}
	if err := users.Replace(userEntries(c.Users)); err != nil {
		return err
	}
	g.smtp = smtpd.New(smtpd.Config{
		Hostname: string(c.Hostname), TLS: g.tls, RequireTLS: c.Submission.RequireTLS, Auth: users, Submit: g.relay,
		Budget:         smtpd.NewBudget(int64(c.MemoryBudget)),
		MaxMessageSize: int64(c.Submission.MaxMessageSize), MaxRecipients: c.Submission.MaxRecipients,
		MaxConnections: c.Submission.MaxConnections, MaxConnectionsPerSource: c.Submission.MaxConnectionsPerSource,
		IdleTimeout: c.Submission.IdleTimeout.Std(), NormaliseLF: c.Submission.BareNewlines == "normalise",
		Grace: c.ShutdownGrace.Std(), Log: g.log, Metrics: reg,
	})
	return nil
}

// addRoutes fills in what the lists of tables say.
func addRoutes(rc *relay.Config, c *config.Config) {
	for _, p := range c.Pools {
		rc.Pools = append(rc.Pools, relay.Pool{Name: p.Name})
	}
	for _, v := range c.VirtualMTA {
		rc.VirtualMTAs = append(rc.VirtualMTAs, relay.VirtualMTA{Name: v.Name, Pool: v.Pool, SourceHost: v.SourceHost})
	}
	for _, r := range c.Relay.Rewrite {
		rc.Rewrite = append(rc.Rewrite, relay.RewriteRule{From: r.MailFrom, To: r.To})
	}
	for _, r := range c.Tracking.Rules {
		rc.TrackingRules = append(rc.TrackingRules, relay.TrackingRule{Pattern: r.SenderOrFrom, URL: string(r.URL), Open: r.Open, InitialOpen: r.InitialOpen, Click: r.Click})
	}
}

func userEntries(users []config.User) []smtpd.UserEntry {
	out := make([]smtpd.UserEntry, len(users))
	for i, u := range users {
		out[i] = smtpd.UserEntry{Password: u.Password, User: relay.User{Name: u.Name, VirtualMTA: u.VirtualMTA, Job: u.Job,
			JobPrefix: u.JobPrefix, Subaccount: u.Subaccount, FromDomains: u.FromDomains, Tracking: u.Tracking, DKIMKey: u.DKIMKey}}
	}
	return out
}

// listen opens every listener, or none.
func (g *gateway) listen() error {
	open := func(key string, addrs ...config.Addr) ([]net.Listener, error) {
		var out []net.Listener
		for _, a := range addrs {
			l, err := net.Listen("tcp", string(a))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			g.listeners = append(g.listeners, l)
			out = append(out, l)
		}
		return out, nil
	}
	var errs [4]error
	g.submission, errs[0] = open("submission.listen", g.c.Submission.Listen...)
	g.submissionTLS, errs[1] = open("submission.listen_tls", g.c.Submission.ListenTLS...)
	g.web, errs[2] = open("tracking.web.listen", g.c.Tracking.Web.Listen...)
	if g.c.Admin.Listen != "" {
		var ls []net.Listener
		if ls, errs[3] = open("admin.listen", g.c.Admin.Listen); len(ls) > 0 {
			g.adminListener = ls[0]
		}
	}
	return errors.Join(errs[:]...)
}

// close gives back what newGateway took.
func (g *gateway) close() {
	for _, l := range g.listeners {
		l.Close()
	}
	if g.pool != nil {
		g.pool.Close()
	}
	if g.queue != nil {
		g.queue.Close()
	}
	if g.spool != nil {
		g.spool.Close()
	}
}

// Serve runs until ctx ends, then drains: the submission listener first, then
// the tracker, then what is left of the events is uploaded as far as the grace
// allows, or stays on disk.
func (g *gateway) Serve(ctx context.Context) error {
	defer g.close()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	failed := make(chan error, 16)
	var front, back sync.WaitGroup
	run := func(wg *sync.WaitGroup, what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				failed <- fmt.Errorf("%s: %w", what, err)
				cancel()
			}
		})
	}
	for _, l := range g.submission {
		run(&front, "submission", func() error { return g.smtp.Serve(inner, l, false) })
	}
	for _, l := range g.submissionTLS {
		run(&front, "submission", func() error { return g.smtp.Serve(inner, l, true) })
	}
	for _, l := range g.web {
		run(&front, "tracker", func() error { return serveHTTP(inner, g.tracker, g.trackerListener(l), g.c.ShutdownGrace.Std()) })
	}
	run(&back, "retry spool", func() error { return g.queue.Serve(inner, g.relay) })
	if g.adminListener != nil {
		s := web.NewServer(g.admin.mux, g.log)
		s.WriteTimeout = 0 // profiles and streams take their time
		run(&back, "admin", func() error { return serveHTTP(background, s, g.adminListener, time.Second) })
	}
	if g.uploader != nil {
		reader, err := g.spool.Reader(ingestReader)
		if err != nil {
			return err
		}
		run(&back, "ingest", func() error { return g.uploader.Serve(background, reader) })
	}
	g.admin.ready.Store(true)
	g.log.Info("postern is up", "submission", addrs(g.submission), "submission_tls", addrs(g.submissionTLS), "tracker", addrs(g.web), "admin", addrs([]net.Listener{g.adminListener}))
	<-inner.Done()
	g.admin.ready.Store(false)
	g.log.Info("stopping")
	front.Wait()
	stopBackground()
	back.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	g.log.Info("stopped")
	return errors.Join(errs...)
}

func (g *gateway) trackerListener(l net.Listener) net.Listener {
	if g.c.Tracking.Web.TLS {
		t := g.tls.Clone()
		t.NextProtos = []string{"h2", "http/1.1"}
		return tls.NewListener(l, t)
	}
	return l
}

// serveHTTP serves until ctx ends, then lets requests finish.
func serveHTTP(ctx context.Context, s *http.Server, l net.Listener, grace time.Duration) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		c, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if s.Shutdown(c) != nil {
			s.Close()
		}
	})
	err := s.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func addrs(ls []net.Listener) []string {
	var out []string
	for _, l := range ls {
		if l != nil {
			out = append(out, l.Addr().String())
		}
	}
	return out
}
