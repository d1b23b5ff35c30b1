package smtpd

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// rareEvery is how often a rareLog says the same.
const rareEvery = time.Minute

// rareLog writes each message once a minute, with how many it kept back.
type rareLog struct {
	out *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	said map[string]*saying
}

type saying struct {
	last time.Time
	kept int
}

func newRareLog(out *slog.Logger, now func() time.Time) *rareLog {
	return &rareLog{out: out, now: now, said: map[string]*saying{}}
}

// log writes a message, which is one of a few: it is remembered.
func (r *rareLog) log(level slog.Level, msg string, args ...any) {
	r.mu.Lock()
	s := r.said[msg]
	now := r.now()
	if s != nil && now.Sub(s.last) < rareEvery {
		s.kept++
		r.mu.Unlock()
		return
	}
	if s == nil {
		s = &saying{}
		r.said[msg] = s
	}
	kept := s.kept
	*s = saying{last: now}
	r.mu.Unlock()

	if kept > 0 {
		args = append(args, "more_since_last_line", kept)
	}
	r.out.Log(context.Background(), level, msg, args...)
}
