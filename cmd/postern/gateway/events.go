package gateway

import (
	"context"
	"fmt"
	"path/filepath"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/cmd/postern/health"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
)

// IngestReader is the name of the uploader's cursor in the event spool.
const IngestReader = "ingest"

// EventsDir is the folder of the event spool.
func EventsDir(c *config.Config) string { return filepath.Join(c.StateDir, "events") }

// events is the event spool, with what shares it.
type events struct {
	spool *spool.Spool
	log   *event.Log
	ids   *event.IDs

	appends health.Work // to the spool
	commits health.Work // of the uploader's cursor
}

// addEvents opens the event spool.
func (g *Gateway) addEvents() (*events, error) {
	cfg, err := g.spoolConfig()
	if err != nil {
		return nil, err
	}
	s, err := spool.Open(cfg)
	if err != nil {
		return nil, err
	}
	g.onClose(func() { s.Close() })

	ev := &events{spool: s, ids: event.NewIDs()}
	ev.log = event.NewLog(s, ev.appends.Begin)

	g.health.Watch("event spool", &ev.appends, diskBound)
	g.health.Watch("event spool writer", s, roundBound)
	g.reg.MustRegister(admin.NewBacklogMetrics(s, cfg.Readers))
	g.admin.EventRoutes(s)
	g.readiness = append(g.readiness, func(context.Context) (string, error) {
		return "", named("event spool", s.Err())
	})

	return ev, nil
}

func (g *Gateway) spoolConfig() (spool.Config, error) {
	dir := EventsDir(g.cfg.Config)
	disk, err := g.disks.Of(dir)
	if err != nil {
		return spool.Config{}, err
	}

	var readers []string
	if g.cfg.Signals.Enabled {
		readers = append(readers, IngestReader)
	}

	return spool.Config{
		Dir:     dir,
		Disk:    disk,
		MinFree: uint64(g.cfg.Signals.MinFreeSpace),
		Keep:    g.cfg.Events.Keep.Std(),
		Readers: readers,
		Log:     g.log,
		Metrics: g.reg,
	}, nil
}

// addUploader adds what uploads events, where there is a service for them.
func (g *Gateway) addUploader(ev *events) error {
	if !g.cfg.Signals.Enabled {
		return nil
	}

	cfg, err := g.ingestConfig()
	if err != nil {
		return err
	}
	uploader, err := ingest.New(cfg)
	if err != nil {
		return err
	}
	g.onClose(func() { uploader.Close() })
	reader, err := ev.spool.Reader(IngestReader)
	if err != nil {
		return err
	}

	source := &watchedSource{Source: reader, commits: &ev.commits}
	g.health.Watch("cursor of uploads", &ev.commits, diskBound)
	g.add(carryOn, "ingest", func(ctx context.Context) error { return uploader.Serve(ctx, source) })

	return nil
}

func (g *Gateway) ingestConfig() (ingest.Config, error) {
	c := g.cfg.Signals
	reported, err := event.Select(c.Report)
	if err != nil {
		return ingest.Config{}, fmt.Errorf("signals.report: %w", err)
	}
	dir := EventsDir(g.cfg.Config)
	disk, err := g.disks.Of(dir)
	if err != nil {
		return ingest.Config{}, err
	}

	return ingest.Config{
		Dir:  dir,
		From: spool.Cursor(dir, IngestReader),
		Disk: disk,
		Sink: &ingest.Signals{
			URL:    string(c.UploadURL),
			APIKey: string(c.APIKey),
		},
		Batch: ingest.BatchConfig{
			Bytes: int(c.BatchSize),
			Age:   c.BatchAge.Std(),
		},
		Filter: ingest.FilterConfig{
			Types:          reported,
			HashRecipients: c.PrivacyPolicy == "sha1",
			Machines: map[string]string{
				event.Prefetch: c.Prefetch,
				event.Scanner:  c.Scanner,
			},
		},
		Uploads:      ingest.UploadConfig{Grace: g.graceLeft},
		Ledger:       ingest.LedgerConfig{Keep: c.KeepLedger.Std()},
		PollOutcomes: c.PollOutcomes,
		LogEach:      c.LogVerbose,
		Log:          g.log,
		Metrics:      g.reg,
	}, nil
}

// watchedSource shows how long cursors take to become durable.
type watchedSource struct {
	ingest.Source
	commits *health.Work
}

// Commit implements ingest.Source.
func (s *watchedSource) Commit(at spool.Position) error {
	defer s.commits.Begin()()
	return s.Source.Commit(at)
}
