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

// Recorder records events. They are durable once Record returns nil.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
}

// Config configures an Intake. Finder, Events and Log are required.
type Config struct {
	Finder  *Finder
	Events  Recorder
	Keep    string           // directory for mail that was not understood; empty: it is dropped
	Now     func() time.Time // default time.Now
	Log     *slog.Logger
	Metrics prometheus.Registerer // optional
}

// maxReading is the most mails that are read at once, whatever the machine.
const maxReading = 8

// Intake receives the mail of bounce and feedback domains. What a report says of a
// message becomes an event; all other mail is counted, and none of it is answered
// or forwarded. It is safe for concurrent use.
type Intake struct {
	cfg     Config
	log     *slog.Logger
	kept    *keeper
	kinds   *prometheus.CounterVec
	reading chan struct{} // holds one element for each mail being read
}

// NewIntake returns an Intake. It creates the directory of Config.Keep.
func NewIntake(c Config) (*Intake, error) {
	if c.Now == nil {
		c.Now = time.Now
	}

	kinds := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_reports_total",
		Help: "Mail to bounce and feedback domains by kind, and by how the message was found (none: no event).",
	}, []string{"kind", "found"})
	in := &Intake{
		cfg:     c,
		log:     c.Log,
		kinds:   kinds,
		reading: make(chan struct{}, min(runtime.NumCPU(), maxReading)),
	}

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

// Unsubscribe is the local part of the mailbox in List-Unsubscribe. The token is
// the subject of a mail to it, or follows a "+" in the local part.
const Unsubscribe = "unsubscribe"

// Take reads one mail; recipients are those of its envelope. It returns an error if
// an event could not be recorded, or if ctx ends while it waits for its turn: then
// the mail must be sent again.
func (in *Intake) Take(ctx context.Context, recipients []string, msg []byte) error {
	// Reading a mail takes several times maxLooked of memory.
	select {
	case in.reading <- struct{}{}:
		defer func() { <-in.reading }()
	case <-ctx.Done():
		return fmt.Errorf("report: %w", ctx.Err())
	}

	r := Parse(msg)
	if t, ok := in.unsubscribe(r, recipients); ok { // recorded even if Unreported
		return in.record(ctx, "unsubscribe", "token", in.unsubscribed(t))
	}

	found, ok := in.cfg.Finder.Find(r, msg, recipients)
	if !ok {
		in.withoutEvent(r, "none", "")
		if r.Kind == Other || r.Kind == Bounce || r.Kind == Complaint {
			in.keep(msg)
		}

		return nil
	}

	e := r.Event(found, in.cfg.Now())
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

// withoutEvent counts and logs a report that has no event.
func (in *Intake) withoutEvent(r *Report, by, id string) {
	in.kinds.WithLabelValues(string(r.Kind), by).Inc()
	in.log.Info("report without an event", "kind", string(r.Kind), "message_id", id,
		"recipients", len(r.Recipients), "fbtype", r.FeedbackType)
}

// keep stores a mail that was not understood, if that is configured.
func (in *Intake) keep(msg []byte) {
	if in.kept == nil {
		return
	}

	if err := in.kept.add(msg, in.cfg.Now()); err != nil {
		in.log.Error("report: cannot keep mail", "err", err)
	}
}

// record records the event of a report, then counts and logs it.
func (in *Intake) record(ctx context.Context, kind, by string, e *event.Event) error {
	if err := in.cfg.Events.Record(ctx, e); err != nil {
		in.log.Error("report: cannot record event", "kind", kind, "message_id", e.MessageID, "err", err)

		return fmt.Errorf("report: %w", err)
	}

	in.recorded(kind, by, e)

	return nil
}

// recorded counts and logs a report with an event.
func (in *Intake) recorded(kind, by string, e *event.Event) {
	in.kinds.WithLabelValues(kind, by).Inc()
	in.log.Info("report", "kind", kind, "message_id", e.MessageID, "recipient", e.RcptTo,
		"class", e.BounceClass, "reason", e.Reason, "fbtype", e.FeedbackType, "found", by)
}

// unsubscribe returns the token of a mail to unsubscribe@ or unsubscribe+token@.
func (in *Intake) unsubscribe(r *Report, recipients []string) (token.Token, bool) {
	if r.Kind != Other && r.Kind != AutoReply { // such as a bounce of a mail like that
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

		t, err := in.cfg.Finder.Keys.Open(text, token.Mail)
		if err == nil && t.Kind == token.ListUnsubscribe {
			return t, true
		}
	}

	return token.Token{}, false
}

// unsubscribed returns the event of the use of a token to unsubscribe.
func (in *Intake) unsubscribed(t token.Token) *event.Event {
	e := &event.Event{
		Type:         event.ListUnsubscribe,
		MessageID:    t.MessageID.String(),
		Timestamp:    event.Timestamp{Time: in.cfg.Now()},
		RcptTo:       t.Recipient,
		SubaccountID: t.Subaccount,
		DelvMethod:   "esmtp",
	}
	e.ID = eventID(e, "")

	return e
}
