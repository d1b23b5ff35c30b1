package ingest

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/spool"
	"postern/tracking/spool/atomicfile"
)

// Config configures an Uploader. Dir, Sink, Batch and Log are required.
type Config struct {
	Dir  string         // for the ledger and the quarantine
	From spool.Position // of the source's cursor: older batches of the ledger are not needed
	Disk *spool.Disk    // shared by all that write to the file system; may be nil
	Sink Sink

	Batch      BatchConfig
	Filter     FilterConfig
	Uploads    UploadConfig
	Ledger     LedgerConfig
	Quarantine QuarantineConfig

	// PollOutcomes asks the service how many events of each batch it accepted, if
	// the sink has a method Outcomes as Signals has.
	PollOutcomes bool

	// LogEach logs each batch, and not only a summary a minute.
	LogEach bool

	Now     func() time.Time // default time.Now
	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil
}

// BatchConfig bounds a batch.
type BatchConfig struct {
	Bytes int           // of NDJSON, before compression
	Age   time.Duration // of its first event
}

// FilterConfig says which events are uploaded, and how they are changed.
type FilterConfig struct {
	Types          map[event.Type]bool // nil: all
	HashRecipients bool                // addresses are replaced by their SHA-1

	// Machines says by event.Class.Kind what becomes of events that no person
	// caused: Drop, Person or Mark, which is the default.
	Machines map[string]string
}

// UploadConfig says how uploads are made and tried again.
type UploadConfig struct {
	AtOnce     int           // uploads in flight; default 4
	MinBackoff time.Duration // after the first failure; default 1 second
	MaxBackoff time.Duration // default 1 minute

	// Grace returns how long uploads in flight may take once Serve's context has
	// ended. With nil they are cancelled.
	Grace func() time.Duration
}

// LedgerConfig configures the ledger.
type LedgerConfig struct {
	Keep time.Duration // default 7 days
	FS   spool.FS      // nil: the system's
}

// QuarantineConfig configures the quarantine.
type QuarantineConfig struct {
	MaxAge time.Duration       // older events are quarantined; default 24 hours
	FS     atomicfile.AppendFS // nil: the system's
}

// withDefaults returns c with the defaults of what is zero.
func (c Config) withDefaults() Config {
	c.Uploads.AtOnce = cmp.Or(c.Uploads.AtOnce, 4)
	c.Uploads.MinBackoff = cmp.Or(c.Uploads.MinBackoff, time.Second)
	c.Uploads.MaxBackoff = cmp.Or(c.Uploads.MaxBackoff, time.Minute)
	c.Ledger.Keep = cmp.Or(c.Ledger.Keep, 7*24*time.Hour)
	c.Quarantine.MaxAge = cmp.Or(c.Quarantine.MaxAge, 24*time.Hour)
	if c.Now == nil {
		c.Now = time.Now
	}

	return c
}
