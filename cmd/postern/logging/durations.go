package logging

import (
	"log/slog"
	"time"
)

// hasDuration reports whether a record has a duration, which JSON would write as a
// number of nanoseconds without a unit.
func hasDuration(r slog.Record) bool {
	found := false
	r.Attrs(func(a slog.Attr) bool {
		found = isDuration(a)
		return !found
	})

	return found
}

func isDuration(a slog.Attr) bool { return a.Value.Kind() == slog.KindDuration }

// inSeconds returns a record with its durations converted by seconds. Only the
// records of libraries have any.
func inSeconds(r slog.Record) slog.Record {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(seconds(a))
		return true
	})

	return out
}

// seconds converts a duration to seconds, with the unit in its key. It returns any
// other attribute unchanged.
func seconds(a slog.Attr) slog.Attr {
	if !isDuration(a) {
		return a
	}

	return slog.Float64(a.Key+"_seconds", a.Value.Duration().Round(time.Microsecond).Seconds())
}
