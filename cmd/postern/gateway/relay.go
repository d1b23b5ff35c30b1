package gateway

import (
	"log/slog"
	"strings"

	"postern/certs"
	"postern/cmd/postern/config"
	"postern/dkim"
	"postern/relay"
	"postern/relay/upstream"
	"postern/tracking/report"
)

func (m *mail) relayConfig(next *generation, pool *upstream.Pool, signer *dkim.Signer) relay.Config {
	c := next.cfg
	return relay.Config{
		Hostname: string(c.Hostname),
		Headers: relay.Headers{
			Names: relay.HeaderNames{
				MessageID:  string(c.Relay.MessageIDHeader),
				Job:        string(c.Relay.JobHeader),
				VirtualMTA: string(c.Relay.VirtualMTAHeader),
				Subaccount: string(c.Relay.SubaccountHeader),
			},
			Received: c.Submission.ReceivedHeader,
			PowerMTA: c.Relay.UpstreamKind == "powermta",
			MsysAPI:  c.Relay.MsysAPI,
		},
		Routes: relay.Routes{
			VERPDomain:    c.Relay.VERPDomain,
			MaxRecipients: c.Submission.MaxRecipients,
			Pools:         pools(c.Config),
			VirtualMTAs:   virtualMTAs(c.Config),
			Rewrite:       rewriteRules(c.Config),
		},
		Signals: signals(c.Config),
		Tracking: relay.TrackingConfig{
			Default: relay.Tracking{
				URL:         string(c.Tracking.URL),
				Open:        c.Tracking.Open,
				InitialOpen: c.Tracking.InitialOpen,
				Click:       c.Tracking.Click,
			},
			Rules:           trackingRules(c.Config),
			ListUnsubscribe: c.Tracking.ListUnsub,
			UnsubscribeBy:   unsubscribeMailbox(c.Config),
			MaxLinkLength:   c.Tracking.MaxLinkLength,
			TextLinks:       c.Tracking.TextLinks,
		},
		Signing: relay.Signing{
			Signer:  signer,
			Require: c.DKIM.Require,
			Life:    c.DKIM.Expire.Std(),
		},
		Sending: relay.Sending{
			QueueAlways:  c.Relay.Queue == "always",
			AnswerWithin: c.Relay.AnswerWithin.Std(),
			Convert8Bit:  c.Relay.Convert8Bit,
		},

		Keys:     next.keys,
		Holders:  m.users,
		Upstream: pool,
		Queue:    &watchedQueue{Queue: m.queue, puts: &m.puts},
		Events:   m.events.log,
		IDs:      m.events.ids,
		Log:      m.g.log,
		Metrics:  next.metrics,
	}
}

func pools(c *config.Config) []relay.Pool {
	var out []relay.Pool
	for _, p := range c.Pools {
		out = append(out, relay.Pool{
			Name:       p.Name,
			Enable:     relay.Enable(p.EnableSignals),
			Subaccount: p.Subaccount,
		})
	}

	return out
}

func virtualMTAs(c *config.Config) []relay.VirtualMTA {
	var out []relay.VirtualMTA
	for _, v := range c.VirtualMTA {
		out = append(out, relay.VirtualMTA{
			Name:       v.Name,
			Pool:       v.Pool,
			SourceHost: v.SourceHost,
			Enable:     relay.Enable(v.EnableSignals),
			Subaccount: v.Subaccount,
		})
	}

	return out
}

func signals(c *config.Config) relay.Signals {
	out := relay.Signals{
		Enable:     relay.Enable(c.Signals.EnableSignals),
		Subaccount: c.Signals.Subaccount,
	}
	for _, f := range c.Signals.Filters {
		out.Filters = append(out.Filters, relay.SignalsFilter{
			Pattern:    f.SenderOrFrom,
			Enable:     f.Enable,
			Subaccount: f.Subaccount,
		})
	}

	return out
}

func rewriteRules(c *config.Config) []relay.RewriteRule {
	var out []relay.RewriteRule
	for _, r := range c.Relay.Rewrite {
		out = append(out, relay.RewriteRule{From: r.MailFrom, To: r.To})
	}

	return out
}

func trackingRules(c *config.Config) []relay.TrackingRule {
	var out []relay.TrackingRule
	for _, r := range c.Tracking.Rules {
		out = append(out, relay.TrackingRule{
			Pattern:     r.SenderOrFrom,
			URL:         string(r.URL),
			Open:        r.Open,
			InitialOpen: r.InitialOpen,
			Click:       r.Click,
		})
	}

	return out
}

// unsubscribeMailbox is where List-Unsubscribe by mail leads. It is empty where
// no mail comes in here.
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

// UpstreamConfig is the way upstream that a configuration describes. It has no
// metrics, and discards its log.
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
