package admin

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"postern/tracking/event"
	"postern/tracking/spool"
)

// SpoolStats counts what a spool holds.
type SpoolStats struct {
	Kept    map[string]int // by the event's public name
	Waiting map[string]int // of these, what the reader has not passed
	Total   int
	Bytes   int
	First   time.Time // zero: there is no event
	Last    time.Time
}

// ReadSpoolStats reads the spool in dir. Waiting is counted for one reader.
func ReadSpoolStats(dir, reader string) (*SpoolStats, error) {
	s := &SpoolStats{
		Kept:    map[string]int{},
		Waiting: map[string]int{},
	}
	cursor := spool.Cursor(dir, reader)
	err := spool.ReadDir(dir, func(r spool.Record) bool {
		name := s.count(r.Data)
		if !isBefore(r.At, cursor) {
			s.Waiting[name]++
		}
		return true
	})

	return s, err
}

// count adds a record, and returns the name that it is counted under.
func (s *SpoolStats) count(stored []byte) string {
	name := "unreadable"
	if ev, err := event.Decode(stored); err == nil {
		name = ev.Type.PublicName()
		if s.First.IsZero() {
			s.First = ev.Timestamp.Time
		}
		s.Last = ev.Timestamp.Time
	}

	s.Kept[name]++
	s.Total++
	s.Bytes += len(stored)
	return name
}

func isBefore(a, b spool.Position) bool {
	return a.Segment < b.Segment || a.Segment == b.Segment && a.Offset < b.Offset
}

// Print writes a table and a line of sums.
func (s *SpoolStats) Print(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "TYPE\tKEPT\tWAITING\t")
	for _, name := range slices.Sorted(maps.Keys(s.Kept)) {
		fmt.Fprintf(t, "%s\t%d\t%d\t\n", name, s.Kept[name], s.Waiting[name])
	}
	if err := t.Flush(); err != nil {
		return err
	}

	fmt.Fprintf(out, "%d events, %d bytes", s.Total, s.Bytes)
	if !s.First.IsZero() {
		fmt.Fprintf(out, ", from %s to %s", s.First.Format(time.DateTime), s.Last.Format(time.DateTime))
	}
	_, err := fmt.Fprintln(out)
	return err
}
