package relay

import (
	"context"
	"mime"
	"strconv"
	"strings"

	"github.com/emersion/go-message/charset"

	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/tracking/event"
)

var lenientWords = &mime.WordDecoder{CharsetReader: charset.Reader}

// Limits on what events hold of others' text, in bytes.
const (
	maxSubject = 998
	maxReason  = 1000
)

// template returns what the events of a message's copies have in common: an
// injection event without the copy's own facts.
func (r *Relay) template(m *outgoing) event.Event {
	t := &m.tracking
	e := event.Event{
		Type:          event.Injection,
		RecvMethod:    "esmtp",
		CampaignID:    m.policy.job,
		FriendlyFrom:  m.policy.origin.author().String(),
		MsgFrom:       m.s.Envelope.From.String(),
		OpenTracking:  &t.Open,
		ClickTracking: &t.Click,
		InitialPixel:  &t.InitialOpen,
		SubaccountID:  m.policy.subaccount,
		Subject:       decodeText(m.policy.subject, maxSubject),
		Local:         event.Local{Session: m.s.Session},
	}

	e.Binding, e.BindingGroup, e.SendingIP = r.binding(m.policy.virtualMTA)
	e.RcptMeta = m.policy.instructions.Metadata
	e.RcptTags = m.policy.instructions.Tags
	return e
}

// injection returns the event of a copy that the upstream took.
func (r *Relay) injection(m *outgoing, c *copyOf) *event.Event {
	e := m.event
	e.MessageID, e.Timestamp = c.id.String(), event.Timestamp{Time: c.at}
	e.ID = event.StableID(string(e.Type), e.MessageID)
	e.MsgSize = strconv.Itoa(c.size)
	e.RcptTo, e.RoutingDomain = c.recipient.Address.String(), routingDomain(c.recipient.Address)
	return &e
}

// bounce returns the event of a copy that a mixed answer leaves refused.
func (r *Relay) bounce(m *outgoing, c *copyOf) *event.Event {
	e := r.injection(m, c)
	e.Type, e.DelvMethod = event.Bounce, "esmtp"
	e.ID = event.StableID(string(e.Type), e.MessageID)
	setFailure(e, copyReply(c).String())
	return e
}

// Bounds on what a copy's events have beyond their template when they are
// encoded, in bytes.
const (
	ownFields = 512                    // ids, times, numbers, names of fields
	ownReason = 2 * (2*maxReason + 64) // a reply, twice, each character escaped
	batchSize = 1 << 20                // encoded events that are written at once
)

// eventSizes returns bounds for the encoded length of an injection event of the
// message, and of a bounce event, whoever of its recipients it is for.
func (r *Relay) eventSizes(m *outgoing) (injection, bounce int, err error) {
	e := m.event
	e.ID, e.MessageID = "0", "0"
	e.Timestamp = event.Timestamp{Time: m.at}

	encoded, err := e.Encode()
	if err != nil {
		return 0, 0, err
	}

	// An address and its domain; quotes and backslashes are escaped, and so are
	// two characters of three bytes, as six.
	longest := 0
	for _, c := range m.copies {
		longest = max(longest, len(c.recipient.Address.String()))
	}

	injection = len(encoded) + 2*2*longest + ownFields
	return injection, injection + ownReason, nil
}

// refusedMessage says whose message is refused here.
func refusedMessage(s *Submission) event.Local {
	local := event.Local{
		Session: s.Session,
		User:    s.User.Name,
		From:    s.Envelope.From.String(),
	}

	header, _, _ := message.Split(s.Message)
	for i, f := range message.Fields(header) {
		switch {
		case i >= maxFields:
			return local
		case f.Is("From") && local.Author == "":
			local.Author = decodeText(f.Value(), maxSubject)
		case f.Is("Subject") && local.Subject == "":
			local.Subject = decodeText(f.Value(), maxSubject)
		}
	}
	return local
}

// recordRejections writes a policy_rejection event for each recipient of a
// message that is refused here, and returns the events' message ids.
func (r *Relay) recordRejections(ctx context.Context, s *Submission, local event.Local, answer reply.Reply) []string {
	now := r.cfg.Now()
	events := make([]*event.Event, 0, len(s.Envelope.Recipients))
	ids := make([]string, 0, len(s.Envelope.Recipients))

	for _, rcpt := range s.Envelope.Recipients {
		address := rcpt.Address.String()
		e := &event.Event{
			Type:         event.PolicyRejection,
			ID:           r.cfg.IDs.Next(),
			MessageID:    r.cfg.Keys.NewID(now).String(),
			Timestamp:    event.Timestamp{Time: now},
			RecvMethod:   "esmtp",
			RcptTo:       address,
			RawRcptTo:    address,
			SubaccountID: s.User.Subaccount,
			Local:        local,
		}
		setFailure(e, answer.String())

		events = append(events, e)
		ids = append(ids, e.MessageID)
	}
	if len(events) == 0 {
		return nil
	}

	if err := r.cfg.Events.Record(context.WithoutCancel(ctx), events...); err != nil {
		r.unsaved.Add(float64(len(events)))
		r.cfg.Log.Error("rejection events lost", "session", s.Session, "events", len(events), "err", err)
	}
	return ids
}

func routingDomain(a envelope.Address) string { return strings.ToLower(a.Domain) }

// decodeText undoes encoded words (RFC 2047) for people to read, and cuts the
// text to n bytes at a character boundary.
func decodeText(s string, n int) string {
	if d, err := lenientWords.DecodeHeader(s); err == nil {
		s = d
	}
	return event.Clip(strings.ToValidUTF8(s, "\uFFFD"), n)
}

// Recorder makes events durable before it returns, and holds room for them.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
	// Reserve holds room for encoded events of n bytes until release is called.
	Reserve(n int64) (release func(), err error)
}

// recordInjections writes the events of the copies that the upstream took, or
// that wait or have failed, in pieces of a bounded size. The copies are gone: a
// failure is told to the operator and not to the client, who would send them
// twice.
func (r *Relay) recordInjections(ctx context.Context, m *outgoing) {
	if !m.report {
		return
	}

	most := max(1, batchSize/m.eventSize)
	var events []*event.Event
	for i, c := range m.copies {
		if c.out.Accepted() || c.queued || c.bounced {
			events = append(events, r.injection(m, c))
		}
		if c.bounced {
			events = append(events, r.bounce(m, c))
		}

		if len(events) >= most || i == len(m.copies)-1 {
			r.record(ctx, m.s.Session, events)
			events = events[:0]
		}
	}
}

// record writes events of copies that are gone.
func (r *Relay) record(ctx context.Context, session string, events []*event.Event) {
	if len(events) == 0 {
		return
	}
	if err := r.cfg.Events.Record(context.WithoutCancel(ctx), events...); err != nil {
		r.unsaved.Add(float64(len(events)))
		r.cfg.Log.Error("injection events lost", "session", session, "events", len(events), "err", err)
	}
}

// recordOwed writes the injection event of a copy that a previous run put into
// the retry spool, and may not have written the event of any more. Its id is
// that of the copy: where it was written, it is the same event.
func (r *Relay) recordOwed(ctx context.Context, t *queue.Transaction, i int) {
	in := infoOf(t)
	if in.Injected == nil {
		return
	}

	e, c := *in.Injected, t.Copies[i]
	e.MessageID = c.MessageID
	e.ID = event.StableID(string(e.Type), e.MessageID)
	e.RcptTo, e.RoutingDomain = c.Recipient.Address.String(), routingDomain(c.Recipient.Address)
	e.MsgSize = strconv.Itoa(len(t.Message(i)))
	r.record(ctx, in.Session, []*event.Event{&e})
}

// recordFailure writes the event of a copy that the retry spool could not
// hand over. Its id is that of the attempt: where a crash, or a DSN that could
// not be queued, has the attempt's end come again, it is the same event.
func (r *Relay) recordFailure(
	ctx context.Context, typ event.Type, t *queue.Transaction, i, tries int, v queue.Verdict,
) {
	in := infoOf(t)
	if in.Injected == nil {
		return
	}

	e, c := *in.Injected, t.Copies[i]
	e.Type, e.MessageID = typ, c.MessageID
	e.RcptTo, e.RoutingDomain = c.Recipient.Address.String(), routingDomain(c.Recipient.Address)
	if typ == event.Bounce { // there is one end
		e.ID = event.StableID(string(typ), e.MessageID)
	} else {
		e.ID = event.StableID(string(typ), e.MessageID, strconv.Itoa(tries))
	}

	now := r.cfg.Now()
	e.Timestamp = event.Timestamp{Time: now}
	e.DelvMethod, e.NumRetries = "esmtp", strconv.Itoa(max(0, tries-1))
	e.QueueTime = strconv.FormatInt(max(0, now.Sub(t.Created).Milliseconds()), 10)
	setFailure(&e, v.Reply)

	if err := r.cfg.Events.Record(context.WithoutCancel(ctx), &e); err != nil {
		r.unsaved.Inc()
		r.cfg.Log.Error("event lost", "type", typ.PublicName(), "message_id", e.MessageID, "err", err)
	}
}

// setFailure fills in what an SMTP answer says: CODE, an enhanced status code
// where there is one, and words.
func setFailure(e *event.Event, answer string) {
	answer = event.Clip(answer, maxReason)
	e.RawReason, e.Reason = answer, answer

	code, status := reply.ParseCodes(answer)
	e.ErrorCode = code
	e.BounceClass = strconv.Itoa(event.BounceClass("", status, answer, nil))
}
