package gateway

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/certs"
	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/dkim"
	"postern/relay"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/smtpd"
	"postern/tracking/report"
	"postern/tracking/web"
)

// buildRelay makes what handles mail: the way upstream and the intake of reports.
func (g *Gateway) buildRelay(n *live, rec Recorder) error {
	l := n.C
	signing, err := g.SigningKeys(l)
	if err != nil {
		return err
	}

	n.Intake, err = report.NewIntake(report.Config{
		Finder: &report.Finder{
			Keys:   n.Keys,
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

	if n.Pool, err = g.newPool(l, n.metrics); err != nil {
		return err
	}

	n.Relay = relay.New(g.RelayConfig(n, rec, dkim.NewSigner(signing)))
	return nil
}

// relayConfig is what handles mail with a configuration.
func (g *Gateway) RelayConfig(n *live, rec Recorder, signer *dkim.Signer) relay.Config {
	l := n.C
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
		UnsubscribeBy:    UnsubscribeMailbox(l.Config),
		MaxLinkLength:    l.Tracking.MaxLinkLength,
		TextLinks:        l.Tracking.TextLinks,
		Convert8Bit:      l.Relay.Convert8Bit,
		Keys:             n.Keys,
		Signer:           signer,
		RequireSignature: l.DKIM.Require,
		SignatureLife:    l.DKIM.Expire.Std(),
		Upstream:         n.Pool,
		Events:           rec,
		IDs:              g.ids,
		Queue:            WatchedQueue{Queue: g.Queue, Work: &g.Puts},
		QueueAlways:      l.Relay.Queue == "always",
		AnswerWithin:     l.Relay.AnswerWithin.Std(),
		Log:              g.log,
		Metrics:          n.metrics,
	}
	if g.Users != nil {
		c.Holders = g.Users
	}
	addRoutes(&c, l.Config)

	return c
}

// unsubscribeMailbox is where List-Unsubscribe by mail leads; empty: nowhere,
// where no mail comes in here.
func UnsubscribeMailbox(c *config.Config) string {
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

func (g *Gateway) SigningKeys(l *config.Loaded) ([]dkim.Key, error) {
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

func (g *Gateway) newPool(l *config.Loaded, metrics prometheus.Registerer) (*upstream.Pool, error) {
	c, err := UpstreamConfig(l)
	if err != nil {
		return nil, err
	}

	c.Log = g.log
	c.Metrics = metrics
	c.DurationBuckets = admin.DurationBuckets
	return upstream.New(c), nil
}

// upstreamConfig is the way upstream that a configuration describes.
func UpstreamConfig(l *config.Loaded) (upstream.Config, error) {
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

func UserEntries(users []config.User) []smtpd.UserEntry {
	out := make([]smtpd.UserEntry, len(users))
	for i, u := range users {
		out[i] = smtpd.UserEntry{
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
func (g *Gateway) Submit(ctx context.Context, s *relay.Submission) reply.Reply {
	begin := time.Now()
	defer func() { g.submitted.Observe(time.Since(begin).Seconds()) }()

	return g.Live.Load().Relay.Submit(ctx, s)
}

// Reject implements smtpd.Submitter.
func (g *Gateway) Reject(ctx context.Context, s *relay.Submission, err error) reply.Reply {
	return g.Live.Load().Relay.Reject(ctx, s, err)
}

// Deliver implements queue.Deliverer.
func (g *Gateway) Deliver(ctx context.Context, t *queue.Transaction, i, tries int) queue.Verdict {
	return g.Live.Load().Relay.Deliver(ctx, t, i, tries)
}

// GiveUp implements queue.Deliverer.
func (g *Gateway) GiveUp(ctx context.Context, t *queue.Transaction, i, tries int, v queue.Verdict) []*queue.Transaction {
	return g.Live.Load().Relay.GiveUp(ctx, t, i, tries, v)
}

// Takes implements smtpd.ReportTaker.
func (g *Gateway) Takes(domain string) bool {
	matches := func(pattern string) bool { return envelope.MatchDomain(pattern, domain) }
	return slices.ContainsFunc(g.Live.Load().C.Reports.Domains(), matches)
}

// Take implements smtpd.ReportTaker.
func (g *Gateway) Take(ctx context.Context, recipients []string, msg []byte) error {
	return g.Live.Load().Intake.Take(ctx, recipients, msg)
}

// Reachable implements queue.Deliverer.
func (g *Gateway) Reachable(ctx context.Context) error {
	if g.C.Role == config.Tracker {
		return nil
	}
	return g.Live.Load().Relay.Reachable(ctx)
}
