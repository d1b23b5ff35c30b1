package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"postern/cmd/postern/config"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
)

type eventsCmd struct {
	Tail    eventsTailCmd    `cmd:"" help:"Print events as they come, as JSON lines."`
	Stats   eventsStatsCmd   `cmd:"" help:"What is in the spool: events by type, bytes, how much waits."`
	Batches eventsBatchesCmd `cmd:"" help:"What became of the batches."`
	Replay  eventsReplayCmd  `cmd:"" help:"Put events of a file into the spool again, with their ids."`
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
	Type    []string `help:"Only events of these types or classes, by either of their names." placeholder:"TYPE"`
	Message string   `help:"Only events of this message id, or of all copies of the message that was queued as this." placeholder:"ID"`
	Follow  bool     `default:"true" negatable:"" help:"Wait for more."`
	All     bool     `help:"From the beginning of what is kept, not only what comes now."`
	Raw     bool     `help:"As they are stored: the Ingest API's JSON, with its names."`
}

func (c *eventsTailCmd) Help() string {
	return "Types and classes: " + eventNames() + `.
Example: postern events tail --type click --type open`
}

const tailEvery = 200 * time.Millisecond

func (c *eventsTailCmd) Run(e *env) error {
	l, err := c.load()
	if err != nil {
		return err
	}

	types, err := event.Select(c.Type)
	if err != nil {
		return usageError{fmt.Sprintf("--type: %v; write one of %s", err, eventNames())}
	}

	dir := eventsDir(l.Config)
	var at spool.Position
	ofMessage := newMessageFilter(c.Message)
	show := c.All || !c.Follow
	out := bufio.NewWriter(e.stdout)
	read := func() error {
		err := spool.ReadFrom(dir, at, func(r spool.Record) bool {
			at = r.Next
			if show {
				c.print(out, types, ofMessage, r.Data)
			} else {
				ofMessage.note(r.Data)
			}
			return true
		})
		return errors.Join(err, out.Flush())
	}

	if err := read(); err != nil || !c.Follow {
		return err
	}

	show = true
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return nil
		}

		if err := read(); err != nil {
			return err
		}
	}
}

// messageFilter selects the events of a message id, or of all copies of the
// message whose client was answered with an id. An event that comes after the
// gateway's own has no more than the copy's message id, so that the filter has
// to see those from before.
type messageFilter struct {
	id     string // empty: every event
	copies map[string]bool
}

func newMessageFilter(id string) *messageFilter {
	return &messageFilter{id: id, copies: map[string]bool{id: true}}
}

func (f *messageFilter) matches(e *event.Event) bool {
	if f.id == "" {
		return true
	}
	if e.Local.Session == f.id {
		f.copies[e.MessageID] = true
	}
	return f.copies[e.MessageID]
}

// note takes notice of an event that is not shown.
func (f *messageFilter) note(stored []byte) {
	if f.id == "" {
		return
	}
	if ev, err := event.Decode(stored); err == nil {
		f.matches(ev)
	}
}

// print writes a stored event where it is asked for. One that cannot be read
// is written as it is, where no filter asks what it is.
func (c *eventsTailCmd) print(out *bufio.Writer, types map[event.Type]bool, of *messageFilter, stored []byte) {
	line := stored
	ev, err := event.Decode(stored)
	switch {
	case err != nil && (len(types) > 0 || of.id != ""):
		return
	case err != nil:
	case !of.matches(ev), len(types) > 0 && !types[ev.Type]:
		return
	case !c.Raw:
		if public, err := ev.EncodePublic(); err == nil {
			line = public
		}
	}

	out.Write(line)
	out.WriteByte('\n')
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

	dir := eventsDir(l.Config)
	cursor := spool.Cursor(dir, ingestReader)
	counts, waiting := map[string]int{}, map[string]int{}
	total, bytes := 0, 0
	var first, last time.Time

	err = spool.ReadDir(dir, func(r spool.Record) bool {
		ev, err := event.Decode(r.Data)
		name := "unreadable"
		if err == nil {
			name = ev.Type.PublicName()
			if first.IsZero() {
				first = ev.Timestamp.Time
			}
			last = ev.Timestamp.Time
		}

		counts[name]++
		total++
		bytes += len(r.Data)
		if r.At.Segment > cursor.Segment || r.At.Segment == cursor.Segment && r.At.Offset >= cursor.Offset {
			waiting[name]++
		}
		return true
	})
	if err != nil {
		return err
	}

	var names []string
	for n := range counts {
		names = append(names, n)
	}
	slices.Sort(names)

	t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "TYPE\tKEPT\tWAITING\t")
	for _, n := range names {
		fmt.Fprintf(t, "%s\t%d\t%d\t\n", n, counts[n], waiting[n])
	}
	t.Flush()

	fmt.Fprintf(e.stdout, "%d events, %d bytes", total, bytes)
	if !first.IsZero() {
		fmt.Fprintf(e.stdout, ", from %s to %s", first.Format(time.DateTime), last.Format(time.DateTime))
	}

	fmt.Fprintln(e.stdout)
	return nil
}

type eventsBatchesCmd struct {
	spoolAt
	JSON bool `help:"As JSON lines."`
	N    int  `short:"n" default:"50" help:"The newest so many."`
}

func (c *eventsBatchesCmd) Run(e *env) error {
	l, err := c.load()
	if err != nil {
		return err
	}

	list, err := ingest.Batches(eventsDir(l.Config))
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
	fmt.Fprintln(t, "BATCH\tTIME\tSTATUS\tEVENTS\tASIDE\tBYTES\tGZIP\tTRIES\tID\tERROR")
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
	File string `arg:"" help:"NDJSON of events, a file of rejected/, or a segment; - for standard input."`
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

	lines, err := replayLines(in)
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
	n, noGateway := inChunks(lines, func(chunk [][]byte) error { return postEvents(ctx, l.Config, chunk) })
	if n > 0 || !errors.Is(noGateway, errNoGateway) {
		return n, noGateway
	}

	s, err := spool.Open(spool.Config{
		Dir:     eventsDir(l.Config),
		Keep:    l.Events.Keep.Std(),
		Readers: []string{ingestReader},
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, lockedOut(noGateway, err)
	}

	n, err = inChunks(lines, func(chunk [][]byte) error { return s.Append(ctx, chunk...) })

	return n, errors.Join(err, s.Close())
}

// replayChunk is how many bytes of events are appended at once: other appends
// wait for no more than that.
const replayChunk = 1 << 20

// inChunks gives lines to f, a chunk at a time, and returns how many it took.
func inChunks(lines [][]byte, f func([][]byte) error) (int, error) {
	done := 0
	for done < len(lines) {
		end, size := done, 0
		for end < len(lines) && (end == done || size+len(lines[end]) <= replayChunk) {
			size += len(lines[end])
			end++
		}

		if err := f(lines[done:end]); err != nil {
			return done, err
		}
		done = end
	}

	return done, nil
}

// replayLines reads events out of NDJSON, as stored or as `events tail` prints
// them, a segment's lines, or what was quarantined.
func replayLines(in io.Reader) ([][]byte, error) {
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 8<<20)

	var out [][]byte
	for n := 1; sc.Scan(); n++ {
		line := bytes.TrimSpace(sc.Bytes())
		if i := bytes.IndexByte(line, '{'); i == 9 { // crc32c SP JSON
			line = line[i:]
		}

		var aside struct {
			Event json.RawMessage `json:"event"`
		}
		if json.Unmarshal(line, &aside) == nil && len(aside.Event) > 0 {
			line = aside.Event
		}

		if len(line) == 0 {
			continue
		}
		ev, err := event.DecodePublic(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}

		stored, err := ev.Encode()
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		out = append(out, stored)
	}

	return out, sc.Err()
}

// postEvents has the gateway that runs append events.
func postEvents(ctx context.Context, c *config.Config, lines [][]byte) error {
	answer, err := askGateway(ctx, c, http.MethodPost, "/events", bytes.NewReader(bytes.Join(lines, []byte("\n"))))
	if err != nil {
		return err
	}

	return answer.Close()
}

const maxReplay = 256 << 20

// eventRoutes lets `postern events replay` reach a running gateway.
func (a *admin) eventRoutes(s *spool.Spool) {
	a.mux.HandleFunc("POST /events", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(adminHeader) == "" {
			http.Error(w, adminHeader+" is missing", http.StatusForbidden)
			return
		}

		lines, err := replayLines(http.MaxBytesReader(w, r.Body, maxReplay))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if _, err := inChunks(lines, func(chunk [][]byte) error { return s.Append(r.Context(), chunk...) }); err != nil {
			http.Error(w, err.Error(), http.StatusInsufficientStorage)
		}
	})
}
