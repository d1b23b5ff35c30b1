package smtpd

import (
	"errors"
	"io"
	"strconv"
	"time"

	"postern/relay"
	"postern/relay/message"
	"postern/relay/reply"
	"postern/smtpd/wire"
)

// readMessage reads a message from the connection, which finds its end itself.
// Memory for a declared SIZE is reserved before the 354, for clients that may
// submit, and for nobody else: theirs is reserved as it arrives, as that of a
// message in chunks, of which the first has arrived when its size is known.
func (ss *session) readMessage(chunked bool) ([]byte, error) {
	arrival := ss.conn.OpenMessage(ss.s.c.phases.message)
	var hint int64
	if !chunked && !ss.reports() {
		hint = ss.env.Params.Size
		if err := ss.reserveBudget(message.FirstBuffer(hint)); err != nil {
			ss.conn.RefuseData()
			return nil, err
		}
	}
	ss.conn.GoAhead()

	return message.ReadMessage(arrival, message.ReadConfig{
		MaxBytes:    ss.s.c.MaxMessageSize,
		NormaliseLF: ss.s.c.NormaliseLF,
		SizeHint:    hint,
		Grow:        ss.reserveBudget,
	})
}

// Data implements smtp.Session, for DATA and BDAT: the connection gives the
// library the one for the other. It does not read the library's reader.
func (ss *session) Data(io.Reader) error {
	chunked := ss.conn.Chunked()
	msg, err := ss.readMessage(chunked)
	if err != nil {
		return ss.dataError(err, chunked)
	}

	ss.conn.BeginPhase(0) // the upstream's time is not the client's
	ss.conn.LogMessage(len(msg))
	ss.whole = true
	ss.sent++
	if ss.reports() {
		return ss.takeReport(msg, time.Now())
	}

	sub := &relay.Submission{
		Session:  ss.id + "." + strconv.Itoa(ss.sent),
		User:     *ss.user,
		Envelope: ss.env,
		Message:  msg,
		Remote:   ss.remote,
		Helo:     ss.c.Hostname(),
		Protocol: ss.protocol(),
		TLS:      ss.conn.Protection(),
	}
	if ss.who != nil {
		sub.Via = ss.who.Via
	}
	if err := checkMessage(msg); err != nil {
		return ss.answer(ss.s.c.Submit.Reject(ss.ctx, sub, err))
	}

	return ss.answer(ss.s.c.Submit.Submit(ss.ctx, sub))
}

func (ss *session) answer(r reply.Reply) error {
	if r.Code/100 == 2 {
		ss.conn.ForgetErrors()
	}
	ss.s.messages.WithLabelValues(strconv.Itoa(r.Code/100) + "xx").Inc()

	return smtpError(r)
}

// protocol is the "with" of Received (RFC 3848).
func (ss *session) protocol() string {
	p := "ESMTP"
	if ss.env.Params.UTF8 {
		p = "UTF8SMTP" // RFC 6531 section 4.3
	}
	if ss.secure() {
		p += "S"
	}
	if !ss.bySource {
		p += "A"
	}

	return p
}

// dataError answers a message that could not be read whole. What it held is
// released before the rest of it is passed over. After a bare CR in DATA the
// connection closes: two readers may not agree where such a message ends.
func (ss *session) dataError(err error, chunked bool) error {
	ss.releaseBudget()
	if errors.Is(err, wire.ErrAborted) {
		return smtpError(reply.ReplyFor(err)) // which the connection omits
	}

	cut := errors.Is(err, message.ErrCut)
	ss.s.c.Log.Warn("message not read",
		"session", ss.id,
		"user", ss.userName(),
		"remote", ss.remote.String(),
		"cut", cut,
		"err", err)

	switch {
	case cut && wire.IsTimeout(err):
		ss.conn.CloseAfterRefusal()
		return ss.answer(reply.Reply{
			Code:     421,
			Enhanced: reply.EnhancedCode{4, 4, 2},
			Text:     "Timeout, closing connection",
		})
	case cut:
		ss.conn.Drop()
	case !chunked && errors.Is(err, message.ErrBareCR):
		ss.conn.CloseAfterRefusal()
	}

	return ss.answer(reply.ReplyFor(err))
}
