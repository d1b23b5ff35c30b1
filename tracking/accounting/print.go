package accounting

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"postern/tracking/event"
)

// Print converts the records of in, a whole accounting file of that name, and calls
// f with each event, until f fails. Nothing is remembered on disk. Malformed lines
// are logged and skipped; that a file has records and no header line is an error.
func Print(in io.Reader, name string, set Settings, log *slog.Logger, f func(*event.Event) error) error {
	r := newReader(set, newCounts())
	failed := 0

	buf := make([]byte, maxRecord)
	for last := false; !last; {
		n, err := in.Read(buf)
		if err != nil && err != io.EOF {
			return err
		}
		last = err == io.EOF
		r.feed(buf[:n], last)

		for {
			r.retries.begin()
			o, ok := r.next()
			if !ok {
				break
			}
			if err := printOutcome(o, name, log, f); err != nil {
				return err
			}
			if o.err != nil {
				failed++
			}
		}
	}

	if r.header == nil && failed > 0 {
		return fmt.Errorf("%s: no header line at the beginning", name)
	}

	return nil
}

// printOutcome hands an event to f and logs why there is none.
func printOutcome(o outcome, name string, log *slog.Logger, f func(*event.Event) error) error {
	switch {
	case o.event != nil:
		return f(o.event)
	case o.isMalformed():
		log.Error("malformed record", "file", name, "line", o.line, "err", o.err)
	case o.err != nil && !errors.Is(o.err, ErrIgnored):
		log.Error("no event", "file", name, "line", o.line, "err", o.err)
	}

	return nil
}
