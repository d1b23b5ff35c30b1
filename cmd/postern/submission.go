package main

import (
	"context"
	"net/netip"

	"postern/relay"
	"postern/relay/reply"
	"postern/smtpd"
)

// authenticator is submission.auth.
func (g *gateway) authenticator() smtpd.Authenticator {
	if g.c.Submission.Auth != "upstream" {
		return g.users
	}

	return smtpd.NewPassthrough(smtpd.PassthroughConfig{
		Users:       g.users,
		DefaultUser: g.c.Submission.DefaultUser,
		Rate:        smtpd.Rate(g.c.Submission.AuthFailureRate),
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
	g.smtp = smtpd.New(g.submissionConfig())
	if !g.c.Reports.On() {
		return
	}

	c := g.reportsConfig()
	c.Budget.Register(g.reg, "postern_reports_memory_budget_used_bytes",
		"Of reports.memory_budget, reserved by messages in flight.")
	g.reports = smtpd.New(c)
}

// submissionConfig is [submission].
func (g *gateway) submissionConfig() smtpd.Config {
	c := g.c.Submission
	var sources []smtpd.SourceRule
	for _, r := range c.Sources {
		sources = append(sources, smtpd.SourceRule{
			Network:     netip.Prefix(r.Network),
			RequireAuth: r.RequireAuth,
			User:        r.User,
		})
	}

	return smtpd.Config{
		Hostname:                string(g.c.Hostname),
		TLS:                     g.certs.Config(false),
		RequireTLS:              c.RequireTLS,
		Auth:                    g.authenticator(),
		Submit:                  g,
		Sources:                 sources,
		Directory:               g.users,
		ProxyFrom:               prefixes(c.ProxyProtocolFrom),
		Budget:                  g.budget,
		MaxMessageSize:          int64(c.MaxMessageSize),
		MaxRecipients:           c.MaxRecipients,
		MaxConnections:          g.connections.Submission,
		MaxConnectionsPerSource: g.connections.PerSource,
		IdleTimeout:             c.IdleTimeout.Std(),
		MessageTimeout:          c.MessageTimeout.Std(),
		NormaliseLF:             c.BareNewlines == "normalise",
		Grace:                   g.c.ShutdownGrace.Std(),
		Log:                     g.log,
		Metrics:                 g.reg,
	}
}

// reportsConfig is [reports], with what it has of [submission].
func (g *gateway) reportsConfig() smtpd.Config {
	c := g.submissionConfig()
	c.Reports = g
	c.MaxConnections = g.connections.Reports
	c.MaxMessageSize = int64(g.c.Reports.MaxMessageSize)
	c.Budget = smtpd.NewBudget(int64(g.c.Reports.MemoryBudget))
	// Mail systems of all kinds report; what they send goes nowhere, so that a
	// bare LF can do no harm.
	c.NormaliseLF = true

	return c
}
