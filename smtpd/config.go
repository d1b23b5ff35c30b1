package smtpd

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/smtpd/wire"
)

// Config is what every server needs, whatever its policy. Zero limits and
// timeouts mean the defaults that the configuration file documents.
type Config struct {
	Hostname    string
	TLS         *tls.Config    // nil: no TLS
	ProxyFrom   []netip.Prefix // proxies whose PROXY header is required and believed
	Budget      *Budget        // of bytes in flight; nil: no limit
	Limits      Limits
	Timeouts    Timeouts
	NormaliseLF bool                  // accept a bare LF as the end of a line, and make it CRLF
	Log         *slog.Logger          // nil: no log
	Metrics     prometheus.Registerer // nil: not registered
}

// Limits bound what clients may send and hold.
type Limits struct {
	MaxMessageSize          int64 // bytes; 0: no limit
	MaxRecipients           int   // of a message; 0: no limit. Reports have their own.
	MaxConnections          int
	MaxConnectionsPerSource int // a source is an IPv4 address or an IPv6 /64
}

// Timeouts bound how long clients may take.
type Timeouts struct {
	Idle    time.Duration // for a command
	Message time.Duration // for a submission, beside its size at 16 KiB/s. Reports have their own.
	Grace   time.Duration // for sessions in a transaction, when the server stops
}

// Default limits and timeouts.
const (
	defaultConnections          = 10000
	defaultConnectionsPerSource = 200
	defaultIdle                 = 5 * time.Minute
)

// maxCommands is how many commands a client that is not authenticated may give
// for each message, beside its recipients.
const maxCommands = 200

// phases are how long a client may take for each part of a session in total,
// whatever it sends meanwhile.
type phases struct {
	greeting time.Duration // from the connection to the success of AUTH
	envelope time.Duration // from MAIL to DATA; for reports from one message to the next
	message  wire.MessageTimeout
}

// Default times of phases.
const (
	greetingTime = 2 * time.Minute
	envelopeTime = 10 * time.Minute
	messageTime  = 10 * time.Minute
	minRate      = 16 << 10 // bytes per second
)

// withDefaults returns the configuration with defaults in place of zeros.
func (c Config) withDefaults() Config {
	if c.Limits.MaxConnections == 0 {
		c.Limits.MaxConnections = defaultConnections
	}
	if c.Limits.MaxConnectionsPerSource == 0 {
		c.Limits.MaxConnectionsPerSource = defaultConnectionsPerSource
	}
	c.Limits.MaxConnectionsPerSource = min(c.Limits.MaxConnectionsPerSource, mostPerSource(c.Limits.MaxConnections))

	if c.Timeouts.Idle == 0 {
		c.Timeouts.Idle = defaultIdle
	}
	if c.Timeouts.Message <= 0 {
		c.Timeouts.Message = messageTime
	}
	if c.Budget == nil {
		c.Budget = NewBudget(0)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}

	return c
}
