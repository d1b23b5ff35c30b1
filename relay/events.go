package relay

import (
	"context"
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-message/charset"

	"postern/relay/envelope"
	"postern/relay/message"
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
	if api := m.policy.api; api != nil {
		e.RcptMeta, e.RcptTags = api.Metadata, api.Tags
	}
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

// receivedField is the trace field of RFC 5321 section 4.4, as the
// configuration wants it.
func (r *Relay) receivedField(s *Submission, now time.Time) []byte {
	var from string
	switch r.cfg.Headers.Received {
	case "off":
		return nil
	case "anonymous":
	default:
		ip := s.Remote.Addr().Unmap()
		literal := ip.String()
		if ip.Is6() {
			literal = "IPv6:" + literal
		}
		from = fmt.Sprintf("from %s ([%s])\r\n\t", safeHelo(s.Helo), literal)
	}

	secure := ""
	if s.TLS != "" {
		secure = " (" + s.TLS + ")"
	}

	return fmt.Appendf(nil, "Received: %sby %s with %s%s id %s;\r\n\t%s\r\n",
		from, r.cfg.Hostname, s.Protocol, secure, s.Session, now.Format(time.RFC1123Z))
}

const maxHelo = 255

// safeHelo returns what a client calls itself, without anything that could end
// the field or begin a comment.
func safeHelo(h string) string {
	h = strings.Map(func(c rune) rune {
		if c > ' ' && c <= '~' && !strings.ContainsRune(`()<>"\;`, c) {
			return c
		}
		return -1
	}, h)

	if h == "" {
		return "unknown"
	}

	return h[:min(len(h), maxHelo)]
}
