package gateway

import (
	"fmt"
	"path/filepath"
	"time"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/relay/queue"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
)

const IngestReader = "ingest"

func (g *Gateway) newUploader() error {
	c, err := g.IngestConfig()
	if err != nil {
		return err
	}

	g.Uploader, err = ingest.New(c)
	return err
}

// ingestConfig is [signals].
func (g *Gateway) IngestConfig() (ingest.Config, error) {
	s := g.C.Signals
	reported, err := event.Select(s.Report)
	if err != nil {
		return ingest.Config{}, fmt.Errorf("signals.report: %w", err)
	}
	disk, err := g.disks.Of(g.EventsDir())
	if err != nil {
		return ingest.Config{}, err
	}

	return ingest.Config{
		Dir:  g.EventsDir(),
		From: spool.Cursor(g.EventsDir(), IngestReader),
		Disk: disk,
		Sink: &ingest.Signals{
			URL:    string(s.UploadURL),
			APIKey: string(s.APIKey),
		},
		BatchBytes: int(s.BatchSize),
		BatchAge:   s.BatchAge.Std(),
		Report:     reported,
		HashRcpt:   s.PrivacyPolicy == "sha1",
		KeepLedger: s.KeepLedger.Std(),
		Machines: map[string]string{
			event.Prefetch: s.Prefetch,
			event.Scanner:  s.Scanner,
		},
		Verbose:      s.LogVerbose,
		PollOutcomes: s.PollOutcomes,
		Grace:        g.GraceLeft,
		Log:          g.log,
		Metrics:      g.Reg,
	}, nil
}

// recorder returns what puts events into the spool.
func (g *Gateway) Recorder() Recorder { return Recorder{Spool: g.Spool, work: &g.Appends} }

func (g *Gateway) EventsDir() string { return EventsDir(g.C.Config) }

func EventsDir(c *config.Config) string { return filepath.Join(c.StateDir, "events") }

// messageIDHeader is the field that holds message ids now: a reload may change it.
func (g *Gateway) MessageIDHeader() string { return string(g.Live.Load().C.Relay.MessageIDHeader) }

// ourID tells whether a message id verifies under the keys in use.
func (g *Gateway) OurID(id string) bool {
	_, err := g.Live.Load().Keys.ParseID(id)
	return err == nil
}

func (g *Gateway) openSpools() error {
	c, err := g.EventSpoolConfig()
	if err != nil {
		return err
	}
	if g.Spool, err = spool.Open(c); err != nil {
		return err
	}
	g.Reg.MustRegister(admin.NewBacklogMetrics(g.Spool, c.Readers))
	if g.C.Role == config.Tracker {
		return nil
	}

	qc, err := g.QueueConfig()
	if err != nil {
		return err
	}
	g.Queue, err = queue.Open(qc)
	return err
}

// eventSpoolConfig is where events wait for the uploader.
func (g *Gateway) EventSpoolConfig() (spool.Config, error) {
	disk, err := g.disks.Of(g.EventsDir())
	if err != nil {
		return spool.Config{}, err
	}

	c := spool.Config{
		Dir:     g.EventsDir(),
		Disk:    disk,
		MinFree: uint64(g.C.Signals.MinFreeSpace),
		Keep:    g.C.Events.Keep.Std(),
		Log:     g.log,
		Metrics: g.Reg,
	}
	if g.C.Signals.Enabled {
		c.Readers = []string{IngestReader}
	}

	return c, nil
}

// queueConfig is the retry spool.
func (g *Gateway) QueueConfig() (queue.Config, error) {
	dir := filepath.Join(g.C.StateDir, "queue")
	disk, err := g.disks.Of(dir)
	if err != nil {
		return queue.Config{}, err
	}

	var pauses []time.Duration
	for _, d := range g.C.Relay.RetryAfter {
		pauses = append(pauses, d.Std())
	}

	return queue.Config{
		Dir:         dir,
		Disk:        disk,
		RetryAfter:  pauses,
		BounceAfter: g.C.Relay.BounceAfter.Std(),
		Grace:       g.C.ShutdownGrace.Std(),
		Budget:      g.Budget,
		Log:         g.log,
		Metrics:     g.Reg,
	}, nil
}
