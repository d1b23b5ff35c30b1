package smtpd

import (
	"errors"
	"io"

	"postern/relay/message"
	"postern/relay/reply"
	"postern/smtpd/wire"
)

// Data implements smtp.Session, for DATA and BDAT: the connection presents the
// one to the library as the other. The message is read from the connection,
// which finds its end itself, and not from the library's reader.
func (s *session) Data(io.Reader) error {
	chunked := s.conn.Chunked()
	msg, err := s.readMessage(chunked)
	if err != nil {
		return s.dataError(err, chunked)
	}

	s.conn.BeginPhase(0) // the upstream's time is not the client's
	s.conn.LogMessage(len(msg))
	s.mail.complete = true
	s.messages++

	return s.answer(s.policy.accept(s, msg))
}

// readMessage reads a message. Where the policy reserves memory for a declared
// SIZE, it does so before the 354. Otherwise memory is reserved as the message
// arrives, as that of a message in chunks always is: the first chunk has arrived
// when its size is known.
func (s *session) readMessage(chunked bool) ([]byte, error) {
	cfg := &s.srv.cfg
	arrival := s.conn.OpenMessage(s.srv.phases.message)

	var hint int64
	if !chunked && s.srv.traits.reserveSize {
		hint = s.mail.envelope.Params.Size
		if err := s.reserveBudget(message.FirstBuffer(hint)); err != nil {
			s.conn.RefuseData()
			return nil, err
		}
	}
	s.conn.GoAhead()

	return message.ReadMessage(arrival, message.ReadConfig{
		MaxBytes:    cfg.Limits.MaxMessageSize,
		NormaliseLF: cfg.NormaliseLF,
		SizeHint:    hint,
		Grow:        s.reserveBudget,
	})
}

// answer counts a message by its reply, and returns that for the library.
func (s *session) answer(r reply.Reply) error {
	if r.Code/100 == 2 {
		s.conn.ForgetErrors()
	}
	s.srv.metrics.message(r)

	return smtpError(r)
}

// dataError answers a message that could not be read whole. Its memory is
// released before the rest of it is discarded. After a bare CR in DATA the
// connection closes: two readers may not agree where such a message ends.
func (s *session) dataError(err error, chunked bool) error {
	s.releaseBudget()
	if errors.Is(err, wire.ErrAborted) {
		return smtpError(reply.For(err)) // which the connection omits
	}

	cut := errors.Is(err, message.ErrCut)
	s.log.Warn("message not read",
		"session", s.id,
		"user", s.userName(),
		"remote", s.remote.String(),
		"cut", cut,
		"err", err)

	switch {
	case cut && wire.IsTimeout(err):
		s.conn.CloseAfterRefusal()
		return s.answer(dataTimeout)
	case cut:
		s.conn.Drop()
	case !chunked && errors.Is(err, message.ErrBareCR):
		s.conn.CloseAfterRefusal()
	}

	return s.answer(reply.For(err))
}
