package gateway

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/cmd/postern/health"
	"postern/dkim"
	"postern/relay"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/smtpd"
	"postern/smtpd/auth"
	"postern/tracking/report"
	"postern/tracking/web"
)

// mail is the way of messages: submission and report servers, relay, retry
// spool and upstream. It implements what those servers and the retry spool ask
// of the configuration in use.
type mail struct {
	g         *Gateway
	events    *events
	certs     *certificates
	users     *auth.Users
	budget    *smtpd.Budget // of submissions, and of what is retried
	queue     *queue.Queue
	puts      health.Work // of the retry spool
	submitted prometheus.Histogram

	live atomic.Pointer[mailGeneration]
}

// mailGeneration is how mail is handled under one configuration.
type mailGeneration struct {
	cfg    *config.Loaded
	pool   *upstream.Pool
	relay  *relay.Relay
	intake *report.Intake // of bounces and complaints
}

// addMail adds everything that handles mail.
func (g *Gateway) addMail(ev *events, certs *certificates) error {
	users, err := auth.NewUsers(auth.Rate(g.cfg.Submission.AuthFailureRate))
	if err != nil {
		return err
	}
	m := &mail{
		g:         g,
		events:    ev,
		certs:     certs,
		users:     users,
		budget:    smtpd.NewBudget(int64(g.cfg.MemoryBudget)),
		submitted: admin.NewSubmissionDuration(),
	}
	g.reg.MustRegister(m.submitted)
	m.budget.Register(g.reg, "postern_memory_budget_used_bytes", "Of memory_budget, reserved by messages in flight.")

	if err := m.addQueue(); err != nil {
		return err
	}
	g.addUsers(users)
	g.reloadables = append(g.reloadables, m)
	g.onClose(m.closePool)
	g.readiness = append(g.readiness, m.ready)

	m.addSubmission()
	m.addReports()
	if g.cfg.Submission.Auth == "upstream" { // to know what it offers
		g.add(carryOn, "logins upstream", func(ctx context.Context) error {
			_ = m.Reachable(ctx)
			return nil
		})
	}

	return nil
}

// addQueue opens the retry spool, and adds what empties it.
func (m *mail) addQueue() error {
	g := m.g
	cfg, err := m.queueConfig()
	if err != nil {
		return err
	}
	if m.queue, err = queue.Open(cfg); err != nil {
		return err
	}
	g.onClose(func() { m.queue.Close() })

	g.health.Watch("retry spool", &m.puts, diskBound)
	g.health.Watch("retry spool's queue", m.queue, roundBound)
	admin.RegisterQueueAge(g.reg, m.queue)
	g.admin.QueueRoutes(m.queue)

	g.add(intake, "upstream", g.newRounds(m.checkUpstreams))
	g.add(intake, "retry spool", func(ctx context.Context) error { return m.queue.Serve(ctx, m) })
	return nil
}

func (m *mail) queueConfig() (queue.Config, error) {
	c := m.g.cfg
	dir := filepath.Join(c.StateDir, "queue")
	disk, err := m.g.disks.Of(dir)
	if err != nil {
		return queue.Config{}, err
	}

	var pauses []time.Duration
	for _, d := range c.Relay.RetryAfter {
		pauses = append(pauses, d.Std())
	}

	return queue.Config{
		Dir:         dir,
		Disk:        disk,
		RetryAfter:  pauses,
		BounceAfter: c.Relay.BounceAfter.Std(),
		Grace:       c.ShutdownGrace.Std(),
		Budget:      m.budget,
		Log:         m.g.log,
		Metrics:     m.g.reg,
	}, nil
}

// checkTimeout is for one look at all upstreams that were away: one that takes
// the connection and says nothing must not hold up the others for long.
const checkTimeout = 30 * time.Second

// checkUpstreams looks after upstreams that were away.
func (m *mail) checkUpstreams(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()

	m.live.Load().pool.Check(bounded)
	m.queue.Len() // which hangs where the queue does
}

// ready implements readiness: there is room for mail in the retry spool, and an
// upstream, or the queue that takes all mail in its place.
func (m *mail) ready(ctx context.Context) (note string, err error) {
	if err := m.queue.Err(); err != nil {
		return "", named("retry spool", err)
	}

	err = m.Reachable(ctx)
	if err != nil && m.live.Load().cfg.Relay.Queue == "always" {
		return "mail is queued, and cannot be handed on: " + err.Error(), nil
	}

	return "", err
}

func (m *mail) closePool() {
	if n := m.live.Load(); n != nil {
		n.pool.Close()
	}
}

// prepare implements reloadable.
func (m *mail) prepare(next *generation) (change, error) {
	n := &mailGeneration{cfg: next.cfg}
	var err error
	if n.intake, err = report.NewIntake(m.reportConfig(next)); err != nil {
		return change{}, err
	}
	signing, err := m.signingKeys(next.cfg)
	if err != nil {
		return change{}, err
	}

	up, err := UpstreamConfig(next.cfg)
	if err != nil {
		return change{}, err
	}
	up.Log = m.g.log
	up.Metrics = next.metrics
	up.DurationBuckets = admin.DurationBuckets
	n.pool = upstream.New(up)
	n.relay = relay.New(m.relayConfig(next, n.pool, dkim.NewSigner(signing)))

	return change{
		use: func() {
			if old := m.live.Swap(n); old != nil {
				old.pool.Retire()
			}
		},
		discard: n.pool.Close,
	}, nil
}

func (m *mail) reportConfig(next *generation) report.Config {
	return report.Config{
		Finder: &report.Finder{
			Keys:   next.keys,
			Header: string(next.cfg.Relay.MessageIDHeader),
			Hosts:  web.Hosts(next.cfg.Tracking.Sites()),
		},
		Events:  m.events.log,
		Keep:    next.cfg.Reports.Keep,
		Log:     m.g.log,
		Metrics: next.metrics,
	}
}

func (m *mail) signingKeys(cfg *config.Loaded) ([]dkim.Key, error) {
	var out []dkim.Key
	for _, k := range cfg.DKIM.Keys {
		key, err := dkim.ReadKey(k.Domain, k.Selector, k.KeyFile)
		if err != nil {
			return nil, err
		}

		fast, err := key.Fast(dkim.RSAMode(cfg.DKIM.RSA))
		if err != nil {
			m.g.log.Warn("RSA signs with crypto/rsa", "domain", k.Domain, "selector", k.Selector, "err", err)
		}
		fast.NotBefore = k.NotBefore.Time
		fast.NotAfter = k.NotAfter.End()
		fast.Successor = k.Successor
		out = append(out, fast)
	}

	return out, nil
}

// addSubmission adds the server for authenticated clients.
func (m *mail) addSubmission() {
	g := m.g
	server := smtpd.NewSubmission(m.submissionConfig(), m.submissionPolicy())
	for _, a := range g.cfg.Submission.Listen {
		g.bind(binding{
			key:   "submission.listen",
			addr:  string(a),
			name:  "submission",
			serve: server.Serve,
		})
	}
	for _, a := range g.cfg.Submission.ListenTLS {
		g.bind(binding{
			key:   "submission.listen_tls",
			addr:  string(a),
			name:  "submission",
			serve: server.ServeTLS,
		})
	}
}

// addReports adds the server for bounces and complaints, where there are
// domains for them.
func (m *mail) addReports() {
	if !m.g.cfg.Reports.On() {
		return
	}

	cfg := m.reportsConfig()
	cfg.Budget.Register(m.g.reg, "postern_reports_memory_budget_used_bytes",
		"Of reports.memory_budget, reserved by messages in flight.")
	server := smtpd.NewReports(cfg, m)
	for _, a := range m.g.cfg.Reports.Listen {
		m.g.bind(binding{
			key:   "reports.listen",
			addr:  string(a),
			name:  "reports",
			serve: server.Serve,
		})
	}
}

// serverConfig is what both servers have in common.
func (m *mail) serverConfig() smtpd.Config {
	c := m.g.cfg.Submission

	return smtpd.Config{
		Hostname:  string(m.g.cfg.Hostname),
		TLS:       m.certs.store.Config(),
		ProxyFrom: prefixes(c.ProxyProtocolFrom),
		Limits: smtpd.Limits{
			MaxRecipients:           c.MaxRecipients,
			MaxConnectionsPerSource: m.g.connections.PerSource,
		},
		Timeouts: smtpd.Timeouts{
			Idle:    c.IdleTimeout.Std(),
			Message: c.MessageTimeout.Std(),
			Grace:   m.g.cfg.ShutdownGrace.Std(),
		},
		Log:     m.g.log,
		Metrics: m.g.reg,
	}
}

// submissionConfig is the configuration of the server for submissions.
func (m *mail) submissionConfig() smtpd.Config {
	c := m.g.cfg.Submission
	out := m.serverConfig()
	out.Budget = m.budget
	out.Limits.MaxMessageSize = int64(c.MaxMessageSize)
	out.Limits.MaxConnections = m.g.connections.Submission
	out.NormaliseLF = c.BareNewlines == "normalise"

	return out
}

// submissionPolicy says who may submit, and where to.
func (m *mail) submissionPolicy() smtpd.Submission {
	c := m.g.cfg.Submission
	out := smtpd.Submission{
		RequireTLS: c.RequireTLS,
		Auth:       m.authenticator(),
		Submit:     m,
		Directory:  m.users,
	}
	for _, r := range c.Sources {
		out.Sources = append(out.Sources, smtpd.SourceRule{
			Network:     netip.Prefix(r.Network),
			RequireAuth: r.RequireAuth,
			User:        r.User,
		})
	}

	return out
}

// reportsConfig is the server of bounces and complaints. Mail systems of all
// kinds report; what they send is passed to nobody, so that a bare LF can do no
// harm.
func (m *mail) reportsConfig() smtpd.Config {
	c := m.g.cfg.Reports
	out := m.serverConfig()
	out.NormaliseLF = true
	out.Budget = smtpd.NewBudget(int64(c.MemoryBudget))
	out.Limits.MaxMessageSize = int64(c.MaxMessageSize)
	out.Limits.MaxConnections = m.g.connections.Reports

	return out
}

// authenticator is submission.auth.
func (m *mail) authenticator() auth.Authenticator {
	c := m.g.cfg.Submission
	if c.Auth != "upstream" {
		return m.users
	}

	return auth.NewPassthrough(auth.PassthroughConfig{
		Users:       m.users,
		DefaultUser: c.DefaultUser,
		Rate:        auth.Rate(c.AuthFailureRate),
		Offered:     func() ([]string, bool) { return m.live.Load().pool.Mechanisms() },
		Login:       m.login,
	})
}

// login tries a login at the upstream.
func (m *mail) login(ctx context.Context, user, password string) (relay.Sender, func(), reply.Reply, error) {
	l, answer, err := m.live.Load().pool.Login(ctx, user, password)
	if l == nil {
		return nil, nil, answer, err
	}

	return l, l.Close, answer, err
}

// Submit implements smtpd.Submitter with the configuration in use.
func (m *mail) Submit(ctx context.Context, s *relay.Submission) reply.Reply {
	begin := time.Now()
	defer func() { m.submitted.Observe(time.Since(begin).Seconds()) }()

	return m.live.Load().relay.Submit(ctx, s)
}

// Reject implements smtpd.Submitter.
func (m *mail) Reject(ctx context.Context, s *relay.Submission, err error) reply.Reply {
	return m.live.Load().relay.Reject(ctx, s, err)
}

// Deliver implements queue.Deliverer.
func (m *mail) Deliver(ctx context.Context, t *queue.Transaction, i, tries int) queue.Verdict {
	return m.live.Load().relay.Deliver(ctx, t, i, tries)
}

// GiveUp implements queue.Deliverer.
func (m *mail) GiveUp(ctx context.Context, t *queue.Transaction, i, tries int, v queue.Verdict) []*queue.Transaction {
	return m.live.Load().relay.GiveUp(ctx, t, i, tries, v)
}

// Reachable implements queue.Deliverer.
func (m *mail) Reachable(ctx context.Context) error { return m.live.Load().relay.Reachable(ctx) }

// Takes implements smtpd.ReportTaker.
func (m *mail) Takes(domain string) bool {
	return slices.ContainsFunc(m.live.Load().cfg.Reports.Domains(), func(pattern string) bool {
		return envelope.MatchDomain(pattern, domain)
	})
}

// Take implements smtpd.ReportTaker.
func (m *mail) Take(ctx context.Context, recipients []string, msg []byte) error {
	return m.live.Load().intake.Take(ctx, recipients, msg)
}

// Put implements relay.Queue, and shows how long transactions take to become
// durable.
func (q *watchedQueue) Put(ctx context.Context, ts ...*queue.Transaction) error {
	defer q.puts.Begin()()
	return q.Queue.Put(ctx, ts...)
}

type watchedQueue struct {
	*queue.Queue
	puts *health.Work
}
