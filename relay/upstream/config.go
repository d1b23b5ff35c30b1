package upstream

import (
	"crypto/x509"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TLSMode says when STARTTLS (RFC 3207) is used.
type TLSMode string

// The values of relay.tls.
const (
	TLSOff           TLSMode = "off"
	TLSOpportunistic TLSMode = "opportunistic" // where offered; the certificate is not verified
	TLSRequired      TLSMode = "required"      // always, with a verified certificate
)

// Config describes the upstreams and how connections to them are used. Fields
// that are zero have the defaults named.
type Config struct {
	// Hostname is the argument of EHLO.
	Hostname string

	// Addrs are the upstreams, as host:port. All of them are used.
	Addrs []string

	TLS     TLSMode
	RootCAs *x509.CertPool // default: the system's

	// Username and Password log in to each upstream. An empty Username means
	// no login.
	Username string
	Password string

	MaxConnections int           // per upstream; default: 64
	MaxMessages    int           // per connection; default: 1000
	MaxIdle        time.Duration // before an unused connection is closed; default: 30 s
	MaxAge         time.Duration // of a connection; default: 10 min
	Wait           time.Duration // for a free connection; default: 30 s
	Timeouts       Timeouts

	Log     *slog.Logger
	Metrics prometheus.Registerer // default: none

	// DurationBuckets are those of postern_upstream_duration_seconds, in
	// seconds. Default: prometheus.DefBuckets.
	DurationBuckets []float64
}

func (c *Config) setDefaults() {
	if c.MaxConnections == 0 {
		c.MaxConnections = 64
	}
	if c.MaxMessages == 0 {
		c.MaxMessages = 1000
	}

	if c.MaxIdle == 0 {
		c.MaxIdle = 30 * time.Second
	}
	if c.MaxAge == 0 {
		c.MaxAge = 10 * time.Minute
	}
	if c.Wait == 0 {
		c.Wait = 30 * time.Second
	}

	c.Timeouts = c.Timeouts.withDefaults()
}

// Timeouts limit the phases of a session. The defaults are the minimum values
// of RFC 5321 section 4.5.3.2, and 30 s for Connect.
type Timeouts struct {
	Connect  time.Duration
	Greeting time.Duration
	Command  time.Duration
	Data     time.Duration // for each block that is written
	FinalDot time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Connect, 30*time.Second)
	set(&t.Greeting, 5*time.Minute)
	set(&t.Command, 5*time.Minute)
	set(&t.Data, 3*time.Minute)
	set(&t.FinalDot, 10*time.Minute)

	return t
}
