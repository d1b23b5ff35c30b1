package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/certs"
	"postern/cmd/postern/config"
	"postern/dkim"
	"postern/relay"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"

	"postern/smtpd/auth"
	"postern/tracking/report"
	"postern/tracking/token"
	"postern/tracking/web"
)

// live is what a reload changes, as a whole. A message and a request finish
// with the one that they began with.
type live struct {
	c       *config.Loaded
	pool    *upstream.Pool
	relay   *relay.Relay
	web     http.Handler
	keys    *token.Keys
	intake  *report.Intake
	geo     *web.Geo // nil: none
	metrics *collected

	useCerts func() // puts its certificates to use; nil: they stay
}

// discard gives back what build took, where it is not put to use.
func (n *live) discard() {
	if n.pool != nil {
		n.pool.Close()
	}
}

// collected takes metrics that are exported once their owner goes live.
type collected struct{ list []prometheus.Collector }

func (c *collected) Register(m prometheus.Collector) error {
	c.list = append(c.list, m)
	return nil
}

func (c *collected) MustRegister(ms ...prometheus.Collector) { c.list = append(c.list, ms...) }

func (c *collected) Unregister(prometheus.Collector) bool { return false }

// prepare makes everything that a configuration can change while the gateway
// runs. Nothing of it is in use before swap.
func (g *gateway) prepare(l *config.Loaded) (*live, error) {
	n, err := g.build(l)
	if err == nil && g.certs != nil && g.acme == nil {
		n.useCerts, err = g.prepareCerts(l)
	}
	if err != nil && n != nil {
		n.discard()
	}

	return n, err
}

// build is prepare without certificates, which the first start has loaded.
func (g *gateway) build(l *config.Loaded) (*live, error) {
	n := &live{c: l, metrics: &collected{}}
	keys, err := token.ReadKeys(l.Tracking.KeyFile)
	if err != nil {
		return nil, err
	}

	n.keys = keys
	rec := g.recorder()
	if n.web, err = g.newWeb(n, rec); err != nil {
		return nil, err
	}

	if g.c.Role == config.All {
		err = g.buildRelay(n, rec)
	}
	return n, err
}

// buildRelay makes what handles mail: the way upstream and the intake of reports.
func (g *gateway) buildRelay(n *live, rec recorder) error {
	l := n.c
	signing, err := g.signingKeys(l)
	if err != nil {
		return err
	}

	n.intake, err = report.NewIntake(report.Config{
		Finder: &report.Finder{
			Keys:   n.keys,
			Header: string(l.Relay.MessageIDHeader),
			Hosts:  web.Hosts(l.Tracking.Sites()),
		},
		Events:  rec,
		Keep:    l.Reports.Keep,
		Log:     g.log,
		Metrics: n.metrics,
	})
	if err != nil {
		return err
	}

	if n.pool, err = g.newPool(l, n.metrics); err != nil {
		return err
	}

	n.relay = relay.New(g.relayConfig(n, rec, dkim.NewSigner(signing)))
	return nil
}

// relayConfig is what handles mail with a configuration.
func (g *gateway) relayConfig(n *live, rec recorder, signer *dkim.Signer) relay.Config {
	l := n.c
	c := relay.Config{
		Hostname: string(l.Hostname),
		Headers: relay.HeaderNames{
			MessageID:  string(l.Relay.MessageIDHeader),
			Job:        string(l.Relay.JobHeader),
			VirtualMTA: string(l.Relay.VirtualMTAHeader),
			Subaccount: string(l.Relay.SubaccountHeader),
		},
		Received:      l.Submission.ReceivedHeader,
		PowerMTA:      l.Relay.UpstreamKind == "powermta",
		MsysAPI:       l.Relay.MsysAPI,
		VERPDomain:    l.Relay.VERPDomain,
		MaxRecipients: l.Submission.MaxRecipients,
		Tracking: relay.Tracking{
			URL:         string(l.Tracking.URL),
			Open:        l.Tracking.Open,
			InitialOpen: l.Tracking.InitialOpen,
			Click:       l.Tracking.Click,
		},
		ListUnsubscribe:  l.Tracking.ListUnsub,
		UnsubscribeBy:    unsubscribeMailbox(l.Config),
		MaxLinkLength:    l.Tracking.MaxLinkLength,
		TextLinks:        l.Tracking.TextLinks,
		Convert8Bit:      l.Relay.Convert8Bit,
		Keys:             n.keys,
		Signer:           signer,
		RequireSignature: l.DKIM.Require,
		SignatureLife:    l.DKIM.Expire.Std(),
		Upstream:         n.pool,
		Events:           rec,
		IDs:              g.ids,
		Queue:            watchedQueue{g.queue, &g.puts},
		QueueAlways:      l.Relay.Queue == "always",
		AnswerWithin:     l.Relay.AnswerWithin.Std(),
		Log:              g.log,
		Metrics:          n.metrics,
	}
	if g.users != nil {
		c.Holders = g.users
	}
	addRoutes(&c, l.Config)

	return c
}

// newWeb makes the tracker's side of a configuration.
func (g *gateway) newWeb(n *live, rec recorder) (http.Handler, error) {
	c, err := g.webConfig(n, rec)
	if err != nil {
		return nil, err
	}

	n.geo = c.Geo
	return web.New(c), nil
}

// webConfig is [tracking] for the tracker.
func (g *gateway) webConfig(n *live, rec recorder) (web.Config, error) {
	t := n.c.Tracking
	c := web.Config{
		Keys:           n.keys,
		Events:         rec,
		IDs:            g.ids,
		Expiry:         t.LinkExpiry.Std(),
		ExpiredURL:     string(t.Web.ExpiredURL),
		Sites:          t.Sites(),
		TrustedProxies: prefixes(t.Web.TrustedProxies),
		State:          g.webState,
		TruncateIP:     t.Web.IPPrivacy == "truncate",
		WellKnown:      map[string][]byte{},
		Log:            g.log,
		Metrics:        n.metrics,

		DurationBuckets: durationBuckets,
	}

	wellKnown := map[string]string{
		web.AppleAppSitePath: t.Web.AppleAppSite,
		web.AssetLinksPath:   t.Web.AssetLinks,
	}
	for path, file := range wellKnown {
		if file == "" {
			continue
		}
		body, err := web.ReadWellKnown(file)
		if err != nil {
			return c, err
		}
		c.WellKnown[path] = body
	}

	if t.Web.GeoIPDB == "" {
		return c, nil
	}
	geo, err := web.OpenGeo(t.Web.GeoIPDB, g.log)
	c.Geo = geo
	return c, err
}

// unsubscribeMailbox is where List-Unsubscribe by mail leads; empty: nowhere,
// where no mail comes in here.
func unsubscribeMailbox(c *config.Config) string {
	if !c.Reports.On() {
		return ""
	}

	domain := c.Relay.VERPDomain
	for _, d := range c.Reports.BounceDomains {
		if domain == "" && !strings.HasPrefix(d, "*") {
			domain = d
		}
	}

	if domain == "" {
		return ""
	}
	return report.Unsubscribe + "@" + domain
}

func prefixes(ps []config.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(ps))
	for i, p := range ps {
		out[i] = netip.Prefix(p)
	}
	return out
}

func (g *gateway) signingKeys(l *config.Loaded) ([]dkim.Key, error) {
	var out []dkim.Key
	for _, k := range l.DKIM.Keys {
		key, err := dkim.ReadKey(k.Domain, k.Selector, k.KeyFile)
		if err != nil {
			return nil, err
		}
		fast, err := key.Fast(dkim.RSAMode(l.DKIM.RSA))
		if err != nil {
			g.log.Warn("RSA signs with crypto/rsa", "domain", k.Domain, "selector", k.Selector, "err", err)
		}

		fast.NotBefore = k.NotBefore.Time
		fast.NotAfter = k.NotAfter.End()
		fast.Successor = k.Successor
		out = append(out, fast)
	}
	return out, nil
}

func (g *gateway) newPool(l *config.Loaded, metrics prometheus.Registerer) (*upstream.Pool, error) {
	c, err := upstreamConfig(l)
	if err != nil {
		return nil, err
	}

	c.Log = g.log
	c.Metrics = metrics
	c.DurationBuckets = durationBuckets
	return upstream.New(c), nil
}

// upstreamConfig is the way upstream that a configuration describes.
func upstreamConfig(l *config.Loaded) (upstream.Config, error) {
	r := l.Relay
	c := upstream.Config{
		Hostname:       string(l.Hostname),
		TLS:            upstream.TLSMode(r.TLS),
		Username:       r.Username,
		Password:       r.Password,
		MaxConnections: r.MaxConnections,
		MaxMessages:    r.MaxMessages,
		Timeouts: upstream.Timeouts{
			Connect:  r.Timeouts.Connect.Std(),
			Greeting: r.Timeouts.Greeting.Std(),
			Command:  r.Timeouts.Command.Std(),
			Data:     r.Timeouts.Data.Std(),
			FinalDot: r.Timeouts.FinalDot.Std(),
		},
		Log: slog.New(slog.DiscardHandler),
	}
	for _, a := range r.Upstream {
		c.Addrs = append(c.Addrs, string(a))
	}

	if r.CAFile != "" {
		pool, err := certs.ReadPool(r.CAFile)
		if err != nil {
			return c, err
		}
		c.RootCAs = pool
	}

	return c, nil
}

// swap puts a configuration to use. Where it returns an error nothing has
// changed.
func (g *gateway) swap(n *live) error {
	if g.users != nil {
		if err := g.users.Replace(userEntries(n.c.Users)); err != nil {
			return err
		}
	}

	if n.useCerts != nil {
		n.useCerts()
	}
	setLevel(g.level, n.c.Config)
	old := g.live.Swap(n)
	g.totals.use(n.metrics, time.Now())
	if old != nil && old.pool != nil {
		old.pool.Retire()
	}

	return nil
}

func setLevel(v *slog.LevelVar, c *config.Config) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // checked with the configuration
	v.Set(level)
}

// reload reads and checks the whole configuration and puts it to use, or keeps
// the old one (house: all or nothing).
func (g *gateway) reload() {
	g.reloading.Lock()
	defer g.reloading.Unlock()

	l, problems := config.Load(g.c.File, g.c.Role)
	for _, p := range problems.Fatal() {
		g.log.Error("reload refused, the old configuration goes on", "problem", p.Error())
	}
	if len(problems.Fatal()) > 0 {
		return
	}

	kept := l.KeepFrom(g.c.Config)
	n, err := g.prepare(l)
	if err == nil {
		if err = g.swap(n); err != nil {
			n.discard()
		}
	}
	if err != nil {
		g.log.Error("reload refused, the old configuration goes on", "err", err)
		return
	}

	for _, p := range problems {
		g.log.Warn("in the configuration", "problem", p.Error())
	}
	g.checkDescriptors(l)
	for _, key := range kept {
		g.log.Warn("this change takes effect at the next start", "key", key)
	}
	g.log.Info("configuration reloaded", "file", l.File)
}

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

// addRoutes fills in what the lists of tables say.
func addRoutes(rc *relay.Config, c *config.Config) {
	for _, p := range c.Pools {
		rc.Pools = append(rc.Pools, relay.Pool{
			Name:       p.Name,
			Enable:     relay.Enable(p.EnableSignals),
			Subaccount: p.Subaccount,
		})
	}
	for _, v := range c.VirtualMTA {
		rc.VirtualMTAs = append(rc.VirtualMTAs, relay.VirtualMTA{
			Name:       v.Name,
			Pool:       v.Pool,
			SourceHost: v.SourceHost,
			Enable:     relay.Enable(v.EnableSignals),
			Subaccount: v.Subaccount,
		})
	}

	rc.Signals = relay.Signals{
		Enable:     relay.Enable(c.Signals.EnableSignals),
		Subaccount: c.Signals.Subaccount,
	}
	for _, f := range c.Signals.Filters {
		rc.Signals.Filters = append(rc.Signals.Filters, relay.SignalsFilter{
			Pattern:    f.SenderOrFrom,
			Enable:     f.Enable,
			Subaccount: f.Subaccount,
		})
	}

	for _, r := range c.Relay.Rewrite {
		rc.Rewrite = append(rc.Rewrite, relay.RewriteRule{From: r.MailFrom, To: r.To})
	}
	for _, r := range c.Tracking.Rules {
		rc.TrackingRules = append(rc.TrackingRules, relay.TrackingRule{
			Pattern:     r.SenderOrFrom,
			URL:         string(r.URL),
			Open:        r.Open,
			InitialOpen: r.InitialOpen,
			Click:       r.Click,
		})
	}
}

func userEntries(users []config.User) []auth.Entry {
	out := make([]auth.Entry, len(users))
	for i, u := range users {
		out[i] = auth.Entry{
			Password: u.Password,
			User: relay.User{
				Name:        u.Name,
				VirtualMTA:  u.VirtualMTA,
				Job:         u.Job,
				JobPrefix:   u.JobPrefix,
				Subaccount:  u.Subaccount,
				FromDomains: u.FromDomains,
				Tracking:    u.Tracking,
				DKIMKey:     u.DKIMKey,
			},
		}
	}

	return out
}

// Submit implements smtpd.Submitter with the configuration in use.
func (g *gateway) Submit(ctx context.Context, s *relay.Submission) reply.Reply {
	begin := time.Now()
	defer func() { g.submitted.Observe(time.Since(begin).Seconds()) }()

	return g.live.Load().relay.Submit(ctx, s)
}

// Reject implements smtpd.Submitter.
func (g *gateway) Reject(ctx context.Context, s *relay.Submission, err error) reply.Reply {
	return g.live.Load().relay.Reject(ctx, s, err)
}

// Deliver implements queue.Deliverer.
func (g *gateway) Deliver(ctx context.Context, t *queue.Transaction, i, tries int) queue.Verdict {
	return g.live.Load().relay.Deliver(ctx, t, i, tries)
}

// GiveUp implements queue.Deliverer.
func (g *gateway) GiveUp(ctx context.Context, t *queue.Transaction, i, tries int, v queue.Verdict) []*queue.Transaction {
	return g.live.Load().relay.GiveUp(ctx, t, i, tries, v)
}

// Takes implements smtpd.ReportTaker.
func (g *gateway) Takes(domain string) bool {
	matches := func(pattern string) bool { return envelope.MatchDomain(pattern, domain) }
	return slices.ContainsFunc(g.live.Load().c.Reports.Domains(), matches)
}

// Take implements smtpd.ReportTaker.
func (g *gateway) Take(ctx context.Context, recipients []string, msg []byte) error {
	return g.live.Load().intake.Take(ctx, recipients, msg)
}

// Reachable implements queue.Deliverer.
func (g *gateway) Reachable(ctx context.Context) error {
	if g.c.Role == config.Tracker {
		return nil
	}
	return g.live.Load().relay.Reachable(ctx)
}
