package smtpd

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// rareEvery is how often a rareLog writes the same message.
const rareEvery = time.Minute

// rareLog writes each message once a minute, with the number of those that it
// suppressed. It is safe for concurrent use.
type rareLog struct {
	out *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	said map[string]*saying
}

// saying is what a rareLog remembers of a message.
type saying struct {
	last       time.Time // when it was written
	suppressed int       // since then
}

func newRareLog(out *slog.Logger, now func() time.Time) *rareLog {
	return &rareLog{
		out:  out,
		now:  now,
		said: map[string]*saying{},
	}
}

// log writes a message, unless it was written less than a minute ago. Messages
// must be constant: each is remembered.
func (r *rareLog) log(level slog.Level, msg string, args ...any) {
	suppressed, due := r.next(msg)
	if !due {
		return
	}

	if suppressed > 0 {
		args = append(args, "more_since_last_line", suppressed)
	}
	r.out.Log(context.Background(), level, msg, args...)
}

// next reports whether a message is due, and how many were suppressed before it.
func (r *rareLog) next(msg string) (suppressed int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	s := r.said[msg]
	if s == nil {
		r.said[msg] = &saying{last: now}
		return 0, true
	}
	if now.Sub(s.last) < rareEvery {
		s.suppressed++
		return 0, false
	}

	suppressed = s.suppressed
	*s = saying{last: now}

	return suppressed, true
}
