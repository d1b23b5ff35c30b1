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

// Recorder makes events durable.
type Recorder interface {
	// Record returns once the events are on disk.
	Record(context.Context, ...*event.Event) error
	// Reserve holds room for encoded events of n bytes until release is called.
	Reserve(n int64) (release func(), err error)
}

// Limits on what events hold of others' text, in bytes.
const (
	maxSubject = 998
	maxReason  = 1000
)

// Bounds on what an encoded event has beyond its template, in bytes.
const (
	ownFields = 512                    // ids, times, numbers, names of fields
	ownReason = 2 * (2*maxReason + 64) // a reply, twice, each character escaped
)

// batchSize bounds the encoded events that are written at once, in bytes.
const batchSize = 1 << 20

// eventTemplate returns what the events of a message's copies have in common: an
// injection event without the fields of one copy.
func (r *Relay) eventTemplate(m *outgoing) event.Event {
	t := &m.route.tracking
	e := event.Event{
		Type:          event.Injection,
		RecvMethod:    "esmtp",
		CampaignID:    m.headers.job,
		FriendlyFrom:  m.headers.origin.author().String(),
		MsgFrom:       m.s.Envelope.From.String(),
		OpenTracking:  &t.Open,
		ClickTracking: &t.Click,
		InitialPixel:  &t.InitialOpen,
		SubaccountID:  m.route.subaccount,
		Subject:       decodeText(m.headers.subject, maxSubject),
		RcptMeta:      m.headers.instructions.Metadata,
		RcptTags:      m.headers.instructions.Tags,
		Local:         event.Local{Session: m.s.Session},
	}

	e.Binding, e.BindingGroup, e.SendingIP = r.binding(m.headers.virtualMTA)
	return e
}

// injection returns the injection event of a copy.
func injection(m *outgoing, c *recipientCopy) *event.Event {
	e := m.template
	e.Timestamp = event.Timestamp{Time: c.at}
	e.MsgSize = strconv.Itoa(c.size)
	setCopy(&e, c.id.String(), c.recipient.Address)
	e.ID = event.StableID(string(e.Type), e.MessageID)

	return &e
}

// bounce returns the bounce event of a copy that a mixed answer leaves refused.
func bounce(m *outgoing, c *recipientCopy) *event.Event {
	e := injection(m, c)
	e.Type = event.Bounce
	e.DelvMethod = "esmtp"
	e.ID = event.StableID(string(e.Type), e.MessageID)
	setFailure(e, cleanReply(c.out).String())

	return e
}

// setCopy sets which copy an event is about.
func setCopy(e *event.Event, messageID string, rcpt envelope.Address) {
	e.MessageID = messageID
	e.RcptTo = rcpt.String()
	e.RoutingDomain = strings.ToLower(rcpt.Domain)
}

// setFailure sets what a reply says: its code, its enhanced status code if there
// is one, and its text.
func setFailure(e *event.Event, answer string) {
	answer = event.Clip(answer, maxReason)
	e.RawReason = answer
	e.Reason = answer

	code, status := reply.ParseCodes(answer)
	e.ErrorCode = code
	e.BounceClass = strconv.Itoa(event.BounceClass("", status, answer, nil))
}

// eventSizes returns bounds for the encoded length of an injection event of the
// message, and of a bounce event, whoever of its recipients it is about.
func (r *Relay) eventSizes(m *outgoing) (injection, bounce int, err error) {
	e := m.template
	e.ID = "0"
	e.MessageID = "0"
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

// recordInjections writes the events of the copies that the upstream accepted,
// that are queued or that are bounced, in batches of a bounded size. The copies
// are gone: a failure is reported to the operator and not to the client, who
// would send them twice. eventSize bounds an encoded event.
func (r *Relay) recordInjections(ctx context.Context, m *outgoing, eventSize int) {
	if !m.route.report {
		return
	}

	most := max(1, batchSize/eventSize)
	var events []*event.Event
	for i, c := range m.copies {
		if c.out.Accepted() || c.queued || c.bounced {
			events = append(events, injection(m, c))
		}
		if c.bounced {
			events = append(events, bounce(m, c))
		}

		if len(events) >= most || i == len(m.copies)-1 {
			r.record(ctx, m.s.Session, events)
			events = events[:0]
		}
	}
}

// record writes injection events of copies that are gone.
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
// the retry spool and may not have written the event of. The id of the event is
// derived from that of the copy, so that it is the same event if it was written.
func (r *Relay) recordOwed(ctx context.Context, t *queue.Transaction, i int) {
	in := infoOf(t)
	if in.Injected == nil {
		return
	}

	e := *in.Injected
	setCopy(&e, t.Copies[i].MessageID, t.Copies[i].Recipient.Address)
	e.ID = event.StableID(string(e.Type), e.MessageID)
	e.MsgSize = strconv.Itoa(len(t.Message(i)))
	r.record(ctx, in.Session, []*event.Event{&e})
}

// recordFailure writes the event of a copy that the retry spool could not hand
// over. The id of the event is that of the attempt, so that it is the same event
// if a crash, or a DSN that could not be queued, repeats the end of the attempt.
func (r *Relay) recordFailure(
	ctx context.Context, typ event.Type, t *queue.Transaction, i, tries int, v queue.Verdict,
) {
	in := infoOf(t)
	if in.Injected == nil {
		return
	}

	e := *in.Injected
	e.Type = typ
	setCopy(&e, t.Copies[i].MessageID, t.Copies[i].Recipient.Address)
	e.ID = event.StableID(string(typ), e.MessageID, strconv.Itoa(tries))
	if typ == event.Bounce { // a copy has one
		e.ID = event.StableID(string(typ), e.MessageID)
	}

	now := r.cfg.Now()
	e.Timestamp = event.Timestamp{Time: now}
	e.DelvMethod = "esmtp"
	e.NumRetries = strconv.Itoa(max(0, tries-1))
	e.QueueTime = strconv.FormatInt(max(0, now.Sub(t.Created).Milliseconds()), 10)
	setFailure(&e, v.Reply)

	if err := r.cfg.Events.Record(context.WithoutCancel(ctx), &e); err != nil {
		r.unsaved.Inc()
		r.cfg.Log.Error("event lost", "type", typ.PublicName(), "message_id", e.MessageID, "err", err)
	}
}

// recordRejections writes a policy_rejection event for each recipient of a
// message that is refused here, and returns the message ids of the events.
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

// localFacts returns what is recorded of a message that is refused here.
func localFacts(s *Submission) event.Local {
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

// lenientWords decodes encoded words (RFC 2047) in any character set.
var lenientWords = &mime.WordDecoder{CharsetReader: charset.Reader}

// decodeText decodes encoded words for people to read, and cuts the text to n
// bytes at a character boundary.
func decodeText(s string, n int) string {
	if decoded, err := lenientWords.DecodeHeader(s); err == nil {
		s = decoded
	}

	return event.Clip(strings.ToValidUTF8(s, "\uFFFD"), n)
}
