package gateway

import (
	"context"
	"net/netip"

	"postern/relay"
	"postern/relay/reply"
	"postern/smtpd"
)

// authenticator is submission.auth.
func (g *Gateway) Authenticator() smtpd.Authenticator {
	if g.C.Submission.Auth != "upstream" {
		return g.Users
	}

	return smtpd.NewPassthrough(smtpd.PassthroughConfig{
		Users:       g.Users,
		DefaultUser: g.C.Submission.DefaultUser,
		Rate:        smtpd.Rate(g.C.Submission.AuthFailureRate),
		Offered:     func() ([]string, bool) { return g.Live.Load().Pool.Mechanisms() },
		Login:       g.LoginUpstream,
	})
}

// loginUpstream logs a client in at an upstream.
func (g *Gateway) LoginUpstream(
	ctx context.Context, user, password string,
) (relay.Sender, func(), reply.Reply, error) {
	l, answer, err := g.Live.Load().Pool.Login(ctx, user, password)
	if l == nil {
		return nil, nil, answer, err
	}

	return l, l.Close, answer, err
}

// newListener makes the servers of submission and of reports.
func (g *Gateway) newListener() {
	g.Budget.Register(g.Reg, "postern_memory_budget_used_bytes", "Of memory_budget, reserved by messages in flight.")
	g.Smtp = smtpd.New(g.SubmissionConfig())
	if !g.C.Reports.On() {
		return
	}

	c := g.ReportsConfig()
	c.Budget.Register(g.Reg, "postern_reports_memory_budget_used_bytes",
		"Of reports.memory_budget, reserved by messages in flight.")
	g.Reports = smtpd.New(c)
}

// submissionConfig is [submission].
func (g *Gateway) SubmissionConfig() smtpd.Config {
	c := g.C.Submission
	var sources []smtpd.SourceRule
	for _, r := range c.Sources {
		sources = append(sources, smtpd.SourceRule{
			Network:     netip.Prefix(r.Network),
			RequireAuth: r.RequireAuth,
			User:        r.User,
		})
	}

	return smtpd.Config{
		Hostname:                string(g.C.Hostname),
		TLS:                     g.Certs.Config(false),
		RequireTLS:              c.RequireTLS,
		Auth:                    g.Authenticator(),
		Submit:                  g,
		Sources:                 sources,
		Directory:               g.Users,
		ProxyFrom:               Prefixes(c.ProxyProtocolFrom),
		Budget:                  g.Budget,
		MaxMessageSize:          int64(c.MaxMessageSize),
		MaxRecipients:           c.MaxRecipients,
		MaxConnections:          g.Connections.Submission,
		MaxConnectionsPerSource: g.Connections.PerSource,
		IdleTimeout:             c.IdleTimeout.Std(),
		MessageTimeout:          c.MessageTimeout.Std(),
		NormaliseLF:             c.BareNewlines == "normalise",
		Grace:                   g.C.ShutdownGrace.Std(),
		Log:                     g.log,
		Metrics:                 g.Reg,
	}
}

// reportsConfig is [reports], with what it has of [submission].
func (g *Gateway) ReportsConfig() smtpd.Config {
	c := g.SubmissionConfig()
	c.Reports = g
	c.MaxConnections = g.Connections.Reports
	c.MaxMessageSize = int64(g.C.Reports.MaxMessageSize)
	c.Budget = smtpd.NewBudget(int64(g.C.Reports.MemoryBudget))
	// Mail systems of all kinds report; what they send goes nowhere, so that a
	// bare LF can do no harm.
	c.NormaliseLF = true

	return c
}
