package upstream

import (
	"crypto/x509"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TLSMode says when STARTTLS is used.
type TLSMode string

// Config describes the upstreams. Zero values get the defaults named.
type Config struct {
	Hostname       string // for EHLO
	Addrs          []string
	TLS            TLSMode
	RootCAs        *x509.CertPool // nil: the system's
	Username       string
	Password       string
	MaxConnections int           // for each upstream: 64
	MaxMessages    int           // on one connection: 1000
	MaxIdle        time.Duration // how long an unused connection is kept: 30 s
	MaxAge         time.Duration // of a connection: 10 min
	Wait           time.Duration // for a free connection: 30 s
	Timeouts       Timeouts
	Log            *slog.Logger
	Metrics        prometheus.Registerer

	DurationBuckets []float64 // of the histogram, in seconds; nil: prometheus.DefBuckets
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

// Timeouts are the client's, phase by phase (RFC 5321 section 4.5.3.2). Zero
// values get the RFC's minimum, but 30 s for the connection itself.
type Timeouts struct {
	Connect, Greeting, Command, Data, FinalDot time.Duration
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
	set(&t.Data, 3*time.Minute) // for each block written
	set(&t.FinalDot, 10*time.Minute)

	return t
}

// The modes of relay.tls.
const (
	TLSOff           TLSMode = "off"
	TLSOpportunistic TLSMode = "opportunistic"
	TLSRequired      TLSMode = "required"
)
