package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/cmd/postern/gateway"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
)

type eventsCmd struct {
	Tail    eventsTailCmd    `cmd:"" help:"Print events as they arrive, as JSON lines."`
	Stats   eventsStatsCmd   `cmd:"" help:"Count the events in the spool, and those that wait, by type."`
	Batches eventsBatchesCmd `cmd:"" help:"Show what became of batches."`
	Replay  eventsReplayCmd  `cmd:"" help:"Return events from a file to the spool, with their ids."`
}

// spoolAt is of the commands that look at a spool.
type spoolAt struct {
	configFile
}

// load reads the configuration, whatever else is wrong in it: an operator wants
// to look at the spool most when something is.
func (c spoolAt) load() (*config.Loaded, error) {
	l, problems := c.read(config.All)
	if l.StateDir == "" || !l.Understood() {
		return nil, problems.Fatal()
	}
	return l, nil
}

type eventsTailCmd struct {
	spoolAt
	Type    []string `help:"Only events of these types or classes." placeholder:"TYPE"`
	Message string   `help:"Only events of this message id or queue id." placeholder:"ID"`
	Follow  bool     `default:"true" negatable:"" help:"Wait for more events."`
	All     bool     `help:"Begin with the oldest event that is kept."`
	Raw     bool     `help:"Print the Ingest API's JSON, as stored."`
}

func (c *eventsTailCmd) Help() string {
	return "Types and classes: " + eventNames() + `.
Example: postern events tail --type click --type open`
}

func (c *eventsTailCmd) Run(e *env) error {
	l, err := c.load()
	if err != nil {
		return err
	}
	types, err := event.Select(c.Type)
	if err != nil {
		return usageError{fmt.Sprintf("--type: %v; write one of %s", err, eventNames())}
	}

	tail := &admin.Tail{
		Dir:     gateway.EventsDir(l.Config),
		Types:   types,
		Message: c.Message,
		All:     c.All,
		Follow:  c.Follow,
		Raw:     c.Raw,
	}
	return tail.Run(e.ctx, e.stdout)
}

// eventNames lists the public names of events and their classes.
func eventNames() string {
	var names, classes []string
	for _, info := range event.Types() {
		names = append(names, info.Public)
		if info.Class != "" && !slices.Contains(classes, info.Class) {
			classes = append(classes, info.Class)
		}
	}

	return strings.Join(append(names, classes...), ", ")
}

type eventsStatsCmd struct{ spoolAt }

func (c *eventsStatsCmd) Run(e *env) error {
	l, err := c.load()
	if err != nil {
		return err
	}

	stats, err := admin.ReadSpoolStats(gateway.EventsDir(l.Config), gateway.IngestReader)
	if err != nil {
		return err
	}

	return stats.Print(e.stdout)
}

type eventsBatchesCmd struct {
	spoolAt
	JSON bool `help:"Print JSON lines."`
	N    int  `short:"n" default:"50" help:"Show the N newest batches."`
}

func (c *eventsBatchesCmd) Run(e *env) error {
	l, err := c.load()
	if err != nil {
		return err
	}

	list, err := ingest.Batches(gateway.EventsDir(l.Config))
	if err != nil {
		return err
	}

	list = list[max(0, len(list)-c.N):]
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		for _, b := range list {
			if err := enc.Encode(b); err != nil {
				return err
			}
		}
		return nil
	}

	t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BATCH\tTIME\tSTATUS\tEVENTS\tQUARANTINED\tBYTES\tGZIP\tTRIES\tID\tERROR")
	for _, b := range list {
		id := ""
		if len(b.IDs) > 0 {
			id = b.IDs[0]
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%.80s\n", b.Batch, b.At.Local().Format(time.DateTime),
			b.Status, b.Events, b.Quarantined, b.Raw, b.Wire, b.Tries, id, b.Error)
	}
	return t.Flush()
}

type eventsReplayCmd struct {
	spoolAt
	File string `arg:"" help:"NDJSON, a file of rejected/ or a segment; - for standard input."`
}

func (c *eventsReplayCmd) Help() string {
	return "Events keep their event_id, so that what the service has already is dropped there.\n" +
		"Example: postern events replay events/rejected/2026-11-24.ndjson"
}

func (c *eventsReplayCmd) Run(e *env) error {
	l, err := c.load()
	if err != nil {
		return err
	}

	in := e.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}

	lines, err := admin.ReplayLines(in)
	if err != nil {
		return fmt.Errorf("%s:%w", c.File, err)
	}

	n, err := c.put(e.ctx, l, lines)
	if err != nil {
		return fmt.Errorf("%d of %d events put into the spool: %w", n, len(lines), err)
	}

	fmt.Fprintf(e.stdout, "%d events put into the spool\n", n)
	return nil
}

// put appends events to the spool, by way of the gateway where one runs, and
// returns how many.
func (c *eventsReplayCmd) put(ctx context.Context, l *config.Loaded, lines [][]byte) (int, error) {
	n, noGateway := admin.InChunks(lines, func(chunk [][]byte) error { return admin.PostEvents(ctx, l.Config, chunk) })
	if n > 0 || !errors.Is(noGateway, admin.ErrNoGateway) {
		return n, noGateway
	}

	s, err := spool.Open(spool.Config{
		Dir:     gateway.EventsDir(l.Config),
		Keep:    l.Events.Keep.Std(),
		Readers: []string{gateway.IngestReader},
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, admin.LockedOut(noGateway, err)
	}

	n, err = admin.InChunks(lines, func(chunk [][]byte) error { return s.Append(ctx, chunk...) })

	return n, errors.Join(err, s.Close())
}
