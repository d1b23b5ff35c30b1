package logging

import (
	"log/slog"
	"time"
)

// hasDuration reports whether a line would have a duration without its unit,
// which JSON writes as a bare number of nanoseconds.
func hasDuration(r slog.Record) bool {
	found := false
	r.Attrs(func(a slog.Attr) bool {
		found = isDuration(a)
		return !found
	})

	return found
}

func isDuration(a slog.Attr) bool { return a.Value.Kind() == slog.KindDuration }

// inSeconds returns a record whose durations are seconds, and say so in their
// keys. Our own lines have none; those of libraries may.
func inSeconds(r slog.Record) slog.Record {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(seconds(a))
		return true
	})

	return out
}

func seconds(a slog.Attr) slog.Attr {
	if !isDuration(a) {
		return a
	}

	return slog.Float64(a.Key+"_seconds", a.Value.Duration().Round(time.Microsecond).Seconds())
}
