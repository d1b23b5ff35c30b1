package accounting

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"postern/tracking/event"
)

// Print converts a whole file and gives each event to f, with nothing
// remembered. Bad lines are logged and stop nothing.
func Print(in io.Reader, name string, set Settings, log *slog.Logger, f func(*event.Event) error) error {
	r := newReading(set, newCounts())
	records := 0

	var data []byte
	buf := make([]byte, maxRecord)
	for last := false; !last; {
		n, err := in.Read(buf)
		data = append(data, buf[:n]...)
		if err != nil && err != io.EOF {
			return err
		}
		last = err == io.EOF

		used := 0
		for {
			r.retries.begin()
			o, n := r.next(data[used:], last)
			if n == 0 {
				break
			}
			used += n
			if err := printed(o, name, log, f); err != nil {
				return err
			}
			if o.err != nil {
				records++
			}
		}
		data = append(data[:0], data[used:]...)
	}

	if r.header == nil && records > 0 {
		return fmt.Errorf("%s: no header line at the beginning", name)
	}

	return nil
}

func printed(o outcome, name string, log *slog.Logger, f func(*event.Event) error) error {
	switch {
	case o.event != nil:
		return f(o.event)
	case o.isBad():
		log.Error("bad record", "file", name, "line", o.line, "err", o.err)
	case o.err != nil && !errors.Is(o.err, ErrIgnored):
		log.Error("no event", "file", name, "line", o.line, "err", o.err)
	}

	return nil
}
