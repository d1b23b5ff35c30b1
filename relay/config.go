package relay

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/dkim"
	"postern/tracking/event"
	"postern/tracking/token"
)

// Config holds the settings of a Relay and what it works with.
type Config struct {
	Hostname string // in Received, Message-ID and DSNs
	Headers  Headers
	Routes   Routes
	Signals  Signals
	Tracking TrackingConfig
	Signing  Signing
	Sending  Sending

	Keys     *token.Keys // seal message ids and links
	Upstream Upstream
	Queue    Queue
	Events   Recorder
	IDs      *event.IDs
	Holders  DomainHolders // the domains that users are held to; nil: none is
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: not registered
	Now      func() time.Time      // nil: time.Now
}

// Headers are the settings of the header policy.
type Headers struct {
	Names    HeaderNames
	Received string // "full", "anonymous" or "off"
	PowerMTA bool   // the upstream is PowerMTA and removes its own fields
	MsysAPI  bool   // read X-MSYS-API; it is removed in any case
}

// Routes says where mail leaves from, and under which return path.
type Routes struct {
	Pools         []Pool
	VirtualMTAs   []VirtualMTA
	Rewrite       []RewriteRule
	VERPDomain    string // empty: no VERP
	MaxRecipients int    // of a message, those of X-MSYS-API included; 0: no limit
}

// Tracking is what is tracked of a message, and the base URL of its links.
type Tracking struct {
	URL         string
	Open        bool
	InitialOpen bool
	Click       bool
}

// TrackingConfig holds the settings of tracking.
type TrackingConfig struct {
	Default Tracking
	Rules   []TrackingRule
	// ListUnsubscribe adds one-click List-Unsubscribe fields (RFC 8058) to
	// messages without any.
	ListUnsubscribe bool
	// UnsubscribeBy is the mailbox that accepts unsubscribe requests by mail,
	// the token as subject; empty: there is none.
	UnsubscribeBy string
	MaxLinkLength int  // bytes of a wrapped link's URL; 0: no limit
	TextLinks     bool // wrap URLs in text/plain parts
}

// Signing holds the settings of DKIM.
type Signing struct {
	Signer  *dkim.Signer  // nil: nothing is signed
	Require bool          // refuse messages that no key is found for
	Life    time.Duration // of a signature, its x= tag; 0: unlimited
}

// Sending says how copies are handed to the upstream.
type Sending struct {
	QueueAlways  bool          // store and forward
	AnswerWithin time.Duration // bounds the wait for the upstream; 0: 4 minutes
	CopiesAtOnce int           // of one message; 0: 8
	Convert8Bit  bool          // encode 8-bit content, whatever the upstream accepts
}
