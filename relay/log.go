package relay

import (
	"context"
	"log/slog"
	"time"

	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/tracking/event"
)

const (
	maxLogged    = 1000 // bytes of a reply, a subject or an address in a line
	maxLoggedIDs = 10   // message ids in a line
)

// copyLine is the log line of a copy. There is one for each attempt.
type copyLine struct {
	messageID string
	recipient string
	outcome   string
	reply     string // what the upstream said; empty: it was not asked
	upstream  string
	session   string // the id that the client got for the message
	user      string
	from      string // MAIL FROM
	job       string
	attempt   int // of the retry spool; 0: none
	took      time.Duration
	err       error
}

// level returns Warn for failures that somebody is told of, else Info.
func (l *copyLine) level() slog.Level {
	switch l.outcome {
	case outcomeBounced, outcomeRefused:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func (r *Relay) logCopy(l *copyLine) {
	attrs := []slog.Attr{
		slog.String("message_id", l.messageID),
		slog.String("recipient", event.Clip(l.recipient, maxLogged)),
		slog.String("outcome", l.outcome),
		slog.String("reply", event.Clip(l.reply, maxLogged)),
		slog.String("upstream", l.upstream),
		slog.String("session", l.session),
		slog.String("user", l.user),
		slog.String("from", event.Clip(l.from, maxLogged)),
		slog.String("job", l.job),
		tookSeconds(l.took),
	}
	if l.attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", l.attempt))
	}
	if l.err != nil {
		attrs = append(attrs, slog.Any("err", l.err))
	}

	r.cfg.Log.LogAttrs(context.Background(), l.level(), "copy", attrs...)
}

func tookSeconds(d time.Duration) slog.Attr {
	return slog.Float64("took_seconds", d.Round(time.Microsecond).Seconds())
}

// logMessage writes a line for each copy of a message, and one that sums them up.
func (r *Relay) logMessage(m *outgoing, answer reply.Reply, took time.Duration) {
	s := m.s
	counts := map[string]int{}
	for _, c := range m.copies {
		r.copiesTotal.WithLabelValues(c.result()).Inc()
		counts[c.outcome()]++

		line := &copyLine{
			messageID: c.id.String(),
			recipient: c.recipient.Address.String(),
			outcome:   c.outcome(),
			upstream:  c.out.Upstream,
			session:   s.Session,
			user:      s.User.Name,
			from:      s.Envelope.From.String(),
			job:       m.headers.job,
			took:      c.took,
			err:       c.out.Err,
		}
		if c.tried() {
			line.reply = cleanReply(c.out).String()
		} else {
			line.took = took
		}
		r.logCopy(line)
	}

	level := slog.LevelInfo
	if answer.Code/100 != 2 {
		level = slog.LevelWarn
	}

	r.cfg.Log.LogAttrs(context.Background(), level, "message",
		slog.String("session", s.Session),
		slog.String("user", s.User.Name),
		slog.String("remote", s.Remote.String()),
		slog.String("tls", s.TLS),
		slog.String("from", event.Clip(s.Envelope.From.String(), maxLogged)),
		slog.String("job", m.headers.job),
		slog.Int("size", len(s.Message)),
		slog.Int("recipients", len(m.copies)),
		slog.Int("accepted", counts[outcomeAccepted]),
		slog.Int("queued", counts[outcomeQueued]),
		slog.Int("bounced", counts[outcomeBounced]),
		slog.Int("refused", counts[outcomeRefused]),
		slog.Int("deferred", counts[outcomeDeferred]),
		slog.String("reply", event.Clip(answer.String(), maxLogged)),
		tookSeconds(took),
	)
}

// logRefused writes the lines of a message that is not relayed: one for the
// message and one for each recipient. ids are the message ids of the recipients'
// policy_rejection events, if there are any.
func (r *Relay) logRefused(s *Submission, local event.Local, ids []string, answer reply.Reply, err error) {
	said := answer.String()
	attrs := []slog.Attr{
		slog.String("session", s.Session),
		slog.String("user", s.User.Name),
		slog.String("remote", s.Remote.String()),
		slog.String("from", event.Clip(local.From, maxLogged)),
		slog.String("header_from", event.Clip(local.Author, maxLogged)),
		slog.String("subject", event.Clip(local.Subject, maxLogged)),
		slog.Int("size", len(s.Message)),
		slog.Int("recipients", len(s.Envelope.Recipients)),
		slog.String("reply", event.Clip(said, maxLogged)),
	}
	if err.Error() != said {
		attrs = append(attrs, slog.Any("err", err))
	}

	r.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "message refused", attrs...)

	outcome := outcomeDeferred
	if answer.Code/100 == 5 {
		outcome = outcomeRefused
	}
	for i, rcpt := range s.Envelope.Recipients {
		line := &copyLine{
			recipient: rcpt.Address.String(),
			outcome:   outcome,
			reply:     said,
			session:   s.Session,
			user:      s.User.Name,
			from:      local.From,
		}
		if i < len(ids) {
			line.messageID = ids[i]
		}
		r.logCopy(line)
	}
}

// retryLine is the log line of an attempt of the retry spool.
type retryLine struct {
	attempt int
	verdict queue.Verdict
	took    time.Duration
	err     error
}

// outcome returns what became of the copy.
func (l *retryLine) outcome() string {
	switch {
	case l.verdict.Done:
		return outcomeAccepted
	case l.verdict.Failed:
		return outcomeBounced
	}
	return outcomeDeferred
}

// logAttempt writes the line of an attempt of the retry spool.
func (r *Relay) logAttempt(t *queue.Transaction, i int, l retryLine) {
	in := infoOf(t)
	c := &t.Copies[i]
	if in.DSN {
		r.logDSN(&dsnLine{
			messageID: c.MessageID,
			info:      in,
			recipient: c.Recipient.Address,
			outcome:   l.outcome(),
			attempt:   l.attempt,
			reply:     l.verdict.Reply,
			upstream:  l.verdict.Upstream,
			took:      l.took,
			err:       l.err,
		})
		return
	}

	r.logCopy(&copyLine{
		messageID: c.MessageID,
		recipient: c.Recipient.Address.String(),
		outcome:   l.outcome(),
		reply:     l.verdict.Reply,
		upstream:  l.verdict.Upstream,
		session:   in.Session,
		user:      in.User,
		from:      t.From.String(),
		job:       in.Job,
		attempt:   l.attempt,
		took:      l.took,
		err:       l.err,
	})
}

// logExpired writes the line of a copy, or a DSN, that is given up because it
// has waited too long.
func (r *Relay) logExpired(t *queue.Transaction, i, attempts int, v queue.Verdict, waited time.Duration) {
	v.Failed = true
	r.logAttempt(t, i, retryLine{attempt: attempts, verdict: v, took: waited})
}

// dsnLine is the log line of a delivery status notification.
type dsnLine struct {
	messageID string // its own
	info      info
	recipient envelope.Address
	outcome   string
	attempt   int // of the retry spool; 0: none
	reply     string
	upstream  string
	took      time.Duration
	err       error
}

func (r *Relay) logDSN(l *dsnLine) {
	level := slog.LevelInfo
	if l.outcome == outcomeBounced {
		level = slog.LevelWarn
	}

	attrs := []slog.Attr{
		slog.String("message_id", l.messageID),
		slog.String("about", l.info.About),
		slog.String("recipient", event.Clip(l.recipient.String(), maxLogged)),
		slog.String("outcome", l.outcome),
		slog.String("session", l.info.Session),
		slog.String("user", l.info.User),
	}
	if l.attempt > 0 {
		attrs = append(attrs,
			slog.Int("attempt", l.attempt),
			slog.String("reply", event.Clip(l.reply, maxLogged)),
			slog.String("upstream", l.upstream),
			tookSeconds(l.took),
		)
	}
	if l.err != nil {
		attrs = append(attrs, slog.Any("err", l.err))
	}

	r.cfg.Log.LogAttrs(context.Background(), level, "dsn", attrs...)
}

// logQueuedDSN writes the line of a DSN that is put into the retry spool.
func (r *Relay) logQueuedDSN(t *queue.Transaction) {
	r.logDSN(&dsnLine{
		messageID: t.ID,
		info:      infoOf(t),
		recipient: t.Copies[0].Recipient.Address,
		outcome:   outcomeQueued,
	})
}
