package report

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/token"
)

// Recorder writes events durably before it returns.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
}

// Config is what an Intake needs.
type Config struct {
	Finder  *Finder
	Events  Recorder
	Keep    string // folder for what was not understood; empty: it is dropped
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// maxReading is how many mails are read at once, whatever the machine.
const maxReading = 8

// Intake takes in mail for bounce and feedback domains: what a report says of a
// message of ours becomes an event; all else is counted, and nothing is ever
// answered or passed on. Safe for concurrent use.
type Intake struct {
	c       Config
	kept    *keeper
	kinds   *prometheus.CounterVec
	reading chan struct{} // a place for each mail that is read now
}

// NewIntake makes an Intake.
func NewIntake(c Config) (*Intake, error) {
	if c.Now == nil {
		c.Now = time.Now
	}

	kinds := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_reports_total",
		Help: "Mail to bounce and feedback domains by kind, and by how the message was found (none: no event).",
	}, []string{"kind", "found"})
	in := &Intake{c: c, kinds: kinds, reading: make(chan struct{}, min(runtime.NumCPU(), maxReading))}

	if c.Keep != "" {
		k, err := newKeeper(c.Keep)
		if err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
		in.kept = k
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(in.kinds)
	}

	return in, nil
}

// Unsubscribe is the local part of the mailbox that List-Unsubscribe names,
// the token being the subject, or behind a "+".
const Unsubscribe = "unsubscribe"

// Take reads one mail; its recipients are those of the envelope. An error means
// that an event could not be written: the mail is to be sent again.
func (in *Intake) Take(ctx context.Context, recipients []string, msg []byte) error {
	select { // reading takes some times maxLooked of memory
	case in.reading <- struct{}{}:
		defer func() { <-in.reading }()
	case <-ctx.Done():
		return fmt.Errorf("report: %w", ctx.Err())
	}

	r := Parse(msg)
	if t, ok := in.unsubscribe(r, recipients); ok { // whatever filters say
		return in.record(ctx, "unsubscribe", "token", in.unsubscribed(t))
	}

	found, ok := in.c.Finder.Find(r, msg, recipients)
	if !ok {
		in.withoutEvent(r, "none", "")
		if r.Kind == Other || r.Kind == Bounce || r.Kind == Complaint {
			in.keep(msg)
		}

		return nil
	}

	e := r.Event(found, in.c.Now())
	if e == nil {
		in.withoutEvent(r, found.By, found.ID.String())
		if r.Kind == Other {
			in.keep(msg)
		}

		return nil
	}
	if found.Unreported {
		in.recorded(string(r.Kind), found.By, e)
		return nil
	}

	return in.record(ctx, string(r.Kind), found.By, e)
}

// withoutEvent counts a report that makes no event, and tells of it.
func (in *Intake) withoutEvent(r *Report, by, id string) {
	in.kinds.WithLabelValues(string(r.Kind), by).Inc()
	in.c.Log.Info("report without an event", "kind", string(r.Kind), "message_id", id,
		"recipients", len(r.Recipients), "fbtype", r.FeedbackType)
}

// keep keeps a mail for people to look at, where that is asked for.
func (in *Intake) keep(msg []byte) {
	if in.kept == nil {
		return
	}
	if err := in.kept.add(msg, in.c.Now()); err != nil {
		in.c.Log.Error("report not kept", "err", err)
	}
}

// record writes the event of a report, and counts it then.
func (in *Intake) record(ctx context.Context, kind, by string, e *event.Event) error {
	if err := in.c.Events.Record(ctx, e); err != nil {
		in.c.Log.Error("report not recorded", "kind", kind, "message_id", e.MessageID, "err", err)
		return fmt.Errorf("report: %w", err)
	}
	in.recorded(kind, by, e)

	return nil
}

// recorded counts a report and tells of it.
func (in *Intake) recorded(kind, by string, e *event.Event) {
	in.kinds.WithLabelValues(kind, by).Inc()
	in.c.Log.Info("report", "kind", kind, "message_id", e.MessageID, "recipient", e.RcptTo, "class", e.BounceClass,
		"reason", e.Reason, "fbtype", e.FeedbackType, "found", by)
}

// unsubscribe finds a token in a mail to unsubscribe@ or unsubscribe+token@.
func (in *Intake) unsubscribe(r *Report, recipients []string) (token.Token, bool) {
	if r.Kind != Other && r.Kind != AutoReply { // a bounce of such a mail is none
		return token.Token{}, false
	}

	for _, a := range recipients {
		local, _, _ := strings.Cut(a, "@")
		if len(local) < len(Unsubscribe) || !strings.EqualFold(local[:len(Unsubscribe)], Unsubscribe) {
			continue
		}

		text := strings.TrimPrefix(local[len(Unsubscribe):], "+")
		if text == "" {
			text = strings.Join(strings.Fields(r.subject), "")
		}
		t, err := in.c.Finder.Keys.Open(text, token.Mail)
		if err == nil && t.Kind == token.ListUnsubscribe {
			return t, true
		}
	}

	return token.Token{}, false
}

func (in *Intake) unsubscribed(t token.Token) *event.Event {
	e := &event.Event{
		Type:         event.ListUnsubscribe,
		MessageID:    t.MessageID.String(),
		Timestamp:    event.Timestamp{Time: in.c.Now()},
		RcptTo:       t.Recipient,
		SubaccountID: t.Subaccount,
		DelvMethod:   "esmtp",
	}
	e.ID = eventID(e, "")

	return e
}
