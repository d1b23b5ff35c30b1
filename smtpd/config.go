package smtpd

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/smtpd/auth"
	"postern/smtpd/wire"
)

// Config is what a server needs: one for submissions, or, with Reports, one
// for bounces and complaints. Zero limits get the defaults that
// the configuration file documents.
type Config struct {
	Hostname                string
	TLS                     *tls.Config
	RequireTLS              bool
	Auth                    auth.Authenticator
	Submit                  Submitter
	Reports                 ReportTaker // instead of Auth, Submit and Sources
	Sources                 []SourceRule
	Directory               auth.Directory // for the users of source rules
	ProxyFrom               []netip.Prefix // whose PROXY header is believed, and wanted
	Budget                  *Budget        // of bytes in flight; one source of port 25 gets a quarter; nil: no limit
	MaxMessageSize          int64          // bytes
	MaxRecipients           int
	MaxConnections          int
	MaxConnectionsPerSource int
	IdleTimeout             time.Duration
	MessageTimeout          time.Duration // for a submission, beside its size at 16 KiB/s
	NormaliseLF             bool
	Grace                   time.Duration // for sessions in a transaction, at the end
	Log                     *slog.Logger
	Metrics                 prometheus.Registerer

	phases phases // zero: the default; tests have less time
}

// phases are how long a client may take for what, all in all.
type phases struct {
	greeting time.Duration // from the connection to AUTH's success
	envelope time.Duration // from MAIL to DATA; on port 25 from one message to the next
	message  wire.MessageTimeout
}

func (c *Config) defaultPhases() phases {
	p := phases{
		greeting: greetingTime,
		envelope: envelopeTime,
		message:  wire.MessageTimeout{Base: messageTime},
	}
	if c.Reports != nil {
		return p
	}

	p.message.MinRate = minRate
	if c.MessageTimeout > 0 {
		p.message.Base = c.MessageTimeout
	}

	return p
}

func (c *Config) setDefaults() {
	if c.Reports != nil {
		c.MaxRecipients = reportRecipients
	}

	if c.MaxConnections == 0 {
		c.MaxConnections = 10000
	}
	if c.MaxConnectionsPerSource == 0 {
		c.MaxConnectionsPerSource = 200
	}
	c.MaxConnectionsPerSource = min(c.MaxConnectionsPerSource, mostPerSource(c.MaxConnections))

	if c.IdleTimeout == 0 {
		c.IdleTimeout = 5 * time.Minute
	}
	if c.phases == (phases{}) {
		c.phases = c.defaultPhases()
	}
	if c.Budget == nil {
		c.Budget = NewBudget(0)
	}
}
