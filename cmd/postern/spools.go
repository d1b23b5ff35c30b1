package main

import (
	"fmt"
	"path/filepath"
	"time"

	"postern/cmd/postern/config"
	"postern/relay/queue"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
)

const ingestReader = "ingest"

func (g *gateway) newUploader() error {
	c, err := g.ingestConfig()
	if err != nil {
		return err
	}

	g.uploader, err = ingest.New(c)
	return err
}

// ingestConfig is [signals].
func (g *gateway) ingestConfig() (ingest.Config, error) {
	s := g.c.Signals
	reported, err := event.Select(s.Report)
	if err != nil {
		return ingest.Config{}, fmt.Errorf("signals.report: %w", err)
	}
	disk, err := g.disks.Of(g.eventsDir())
	if err != nil {
		return ingest.Config{}, err
	}

	return ingest.Config{
		Dir:  g.eventsDir(),
		From: spool.Cursor(g.eventsDir(), ingestReader),
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
		Grace:        g.graceLeft,
		Log:          g.log,
		Metrics:      g.reg,
	}, nil
}

// recorder returns what puts events into the spool.
func (g *gateway) recorder() recorder { return recorder{spool: g.spool, work: &g.appends} }

func (g *gateway) eventsDir() string { return eventsDir(g.c.Config) }

func eventsDir(c *config.Config) string { return filepath.Join(c.StateDir, "events") }

// messageIDHeader is the field that holds message ids now: a reload may change it.
func (g *gateway) messageIDHeader() string { return string(g.live.Load().c.Relay.MessageIDHeader) }

// ourID tells whether a message id verifies under the keys in use.
func (g *gateway) ourID(id string) bool {
	_, err := g.live.Load().keys.ParseID(id)
	return err == nil
}

func (g *gateway) openSpools() error {
	c, err := g.eventSpoolConfig()
	if err != nil {
		return err
	}
	if g.spool, err = spool.Open(c); err != nil {
		return err
	}
	g.reg.MustRegister(newBacklogMetrics(g.spool, c.Readers))
	if g.c.Role == config.Tracker {
		return nil
	}

	qc, err := g.queueConfig()
	if err != nil {
		return err
	}
	g.queue, err = queue.Open(qc)
	return err
}

// eventSpoolConfig is where events wait for the uploader.
func (g *gateway) eventSpoolConfig() (spool.Config, error) {
	disk, err := g.disks.Of(g.eventsDir())
	if err != nil {
		return spool.Config{}, err
	}

	c := spool.Config{
		Dir:     g.eventsDir(),
		Disk:    disk,
		MinFree: uint64(g.c.Signals.MinFreeSpace),
		Keep:    g.c.Events.Keep.Std(),
		Log:     g.log,
		Metrics: g.reg,
	}
	if g.c.Signals.Enabled {
		c.Readers = []string{ingestReader}
	}

	return c, nil
}

// queueConfig is the retry spool.
func (g *gateway) queueConfig() (queue.Config, error) {
	dir := filepath.Join(g.c.StateDir, "queue")
	disk, err := g.disks.Of(dir)
	if err != nil {
		return queue.Config{}, err
	}

	var pauses []time.Duration
	for _, d := range g.c.Relay.RetryAfter {
		pauses = append(pauses, d.Std())
	}

	return queue.Config{
		Dir:         dir,
		Disk:        disk,
		RetryAfter:  pauses,
		BounceAfter: g.c.Relay.BounceAfter.Std(),
		Grace:       g.c.ShutdownGrace.Std(),
		Budget:      g.budget,
		Log:         g.log,
		Metrics:     g.reg,
	}, nil
}
