package upstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/reply"
)

var (
	// ErrEightBit says that a message has 8-bit content and the upstream does
	// not offer 8BITMIME (RFC 6152). Nothing was sent.
	ErrEightBit = errors.New("upstream does not offer 8BITMIME")

	// errUTF8 says that a transaction needs SMTPUTF8 (RFC 6531) and the upstream
	// does not offer it. Nothing was sent.
	errUTF8 = errors.New("upstream does not offer SMTPUTF8")
)

// Transaction is one copy of a message for one recipient.
type Transaction struct {
	From      envelope.Address
	Recipient envelope.Recipient
	Params    envelope.MailParams

	// Message is the whole message in parts, with CRLF line ends.
	Message  [][]byte
	EightBit bool // the message has bytes above 0x7f

	// Session is the client's, and MessageID that of the copy, for the log.
	Session   string
	MessageID string
}

// Outcome is what became of a transaction.
type Outcome struct {
	Upstream string

	// Reply is the upstream's final reply, whatever its code, if Err is nil.
	Reply reply.Reply
	Err   error

	// Doubtful is set if the whole message was sent and no reply came: the
	// upstream may have accepted it.
	Doubtful bool

	answered bool // there was a reply to the final dot
}

// Accepted reports whether the upstream accepted the message.
func (o Outcome) Accepted() bool { return o.Err == nil && o.Reply.Code/100 == 2 }

// Permanent reports whether the message was refused for good, by the upstream or
// because the upstream lacks an extension that the message needs.
func (o Outcome) Permanent() bool {
	var f *reply.Fault
	if errors.As(o.Err, &f) {
		return f.Class == reply.Permanent
	}

	return o.Err == nil && o.Reply.Code/100 == 5 && !concernsSession(phaseFinalDot, o.Reply)
}

// size returns the length of the message in bytes.
func (t *Transaction) size() int {
	n := 0
	for _, b := range t.Message {
		n += len(b)
	}

	return n
}

// international reports whether an address of the envelope needs SMTPUTF8.
func (t *Transaction) international() bool {
	return !t.From.IsASCII() || !t.Recipient.Address.IsASCII()
}

// mailCommand returns MAIL with those parameters whose extensions are offered.
func (t *Transaction) mailCommand(ext Extensions) string {
	var b strings.Builder
	b.WriteString("MAIL FROM:" + t.From.Path())

	if ext.Has("SIZE") {
		b.WriteString(" SIZE=" + strconv.Itoa(t.size()))
	}
	if t.EightBit && ext.Has("8BITMIME") {
		b.WriteString(" BODY=8BITMIME")
	}
	if (t.Params.UTF8 || t.international()) && ext.Has("SMTPUTF8") {
		b.WriteString(" SMTPUTF8")
	}

	if !ext.Has("DSN") {
		return b.String()
	}

	if t.Params.Return != "" {
		b.WriteString(" RET=" + t.Params.Return)
	}
	if t.Params.EnvelopeID != "" {
		b.WriteString(" ENVID=" + envelope.Xtext(t.Params.EnvelopeID))
	}

	return b.String()
}

// rcptCommand returns RCPT, with the DSN parameters (RFC 3461 section 4) if the
// extension is offered.
func (t *Transaction) rcptCommand(ext Extensions) string {
	r := t.Recipient
	s := "RCPT TO:" + r.Address.Path()
	if !ext.Has("DSN") {
		return s
	}

	if len(r.Notify) > 0 {
		s += " NOTIFY=" + strings.Join(r.Notify, ",")
	}

	switch {
	case r.Original == "":
		return s
	case r.OriginalType == "utf-8":
		return s + " ORCPT=utf-8;" + envelope.UTF8Xtext(r.Original)
	}

	return s + " ORCPT=" + r.OriginalType + ";" + envelope.Xtext(r.Original)
}

// checkExtensions returns an error if the transaction needs an extension that is
// not offered.
func (t *Transaction) checkExtensions(ext Extensions) error {
	needsUTF8 := t.Params.UTF8 && t.Params.NeedsUTF8 || t.international()
	if needsUTF8 && !ext.Has("SMTPUTF8") {
		f := reply.Refuse(550, reply.EnhancedCode{5, 6, 7},
			"Upstream does not take internationalised addresses or headers")
		f.Err = errUTF8
		return f
	}

	if t.EightBit && !ext.Has("8BITMIME") {
		f := reply.Refuse(550, reply.EnhancedCode{5, 6, 3},
			"Message has 8-bit content and the upstream does not offer 8BITMIME")
		f.Err = ErrEightBit
		return f
	}

	return nil
}

// transaction runs a transaction from MAIL to the reply to the final dot. The
// end of ctx interrupts it, and breaks the connection.
func (c *conn) transaction(ctx context.Context, t *Transaction) Outcome {
	c.messages++
	c.transcript.session = t.Session
	c.transcript.messageID = t.MessageID
	if err := t.checkExtensions(c.ext); err != nil {
		return Outcome{Err: err}
	}

	stop := context.AfterFunc(ctx, func() { c.raw.SetDeadline(aLongTimeAgo) })
	defer func() {
		if !stop() {
			c.broken = true
		}
	}()

	refused, err := c.sendEnvelope(ctx, t)
	if err != nil {
		return Outcome{Err: err}
	}
	if refused != nil {
		return c.outcomeOf(refused)
	}

	return c.sendMessage(ctx, t)
}

// step is a command of the envelope.
type step struct {
	phase   phase
	command string
}

// sendEnvelope sends MAIL, RCPT and DATA, and returns the first refusal. With
// neither a refusal nor an error, the upstream waits for the message.
func (c *conn) sendEnvelope(ctx context.Context, t *Transaction) (*refusal, error) {
	steps := []step{
		{phaseMail, t.mailCommand(c.ext)},
		{phaseRcpt, t.rcptCommand(c.ext)},
		{phaseData, "DATA"},
	}
	if c.ext.Has("PIPELINING") {
		return c.pipeline(ctx, steps)
	}

	return c.oneByOne(ctx, steps)
}

// oneByOne sends each command after the reply to the one before.
func (c *conn) oneByOne(ctx context.Context, steps []step) (*refusal, error) {
	for i, s := range steps {
		if err := c.writeCommands(ctx, steps[i:i+1]); err != nil {
			return nil, notSent(s.phase, err)
		}

		r, err := c.readReply()
		if err != nil {
			return nil, noReply(s.phase, err)
		}

		refused, err := c.judge(s.phase, r)
		if err != nil {
			return nil, err
		}
		if refused != nil {
			c.afterRefusal(refused)
			return refused, nil
		}
	}

	return nil, nil
}

// pipeline sends all commands at once and then reads their replies (RFC 2920).
func (c *conn) pipeline(ctx context.Context, steps []step) (*refusal, error) {
	if err := c.writeCommands(ctx, steps); err != nil {
		return nil, notSent(steps[0].phase, err)
	}

	var first *refusal
	for _, s := range steps {
		r, err := c.readReply()
		if err != nil && first != nil { // refused, and closed before the other replies
			return first, nil
		}
		if err != nil {
			return nil, noReply(s.phase, err)
		}

		refused, err := c.judge(s.phase, r)
		if err != nil {
			return nil, err
		}

		// Nobody is to receive the message that DATA asks for after a refusal.
		if refused == nil && s.phase == phaseData && first != nil {
			c.broken = true
		}
		if first == nil {
			first = refused
		}
		if refused != nil && r.Code == 421 {
			break
		}
	}

	if first != nil {
		c.afterRefusal(first)
	}

	return first, nil
}

// writeCommands sends commands without reading their replies.
func (c *conn) writeCommands(ctx context.Context, steps []step) error {
	c.setDeadline(ctx, c.timeouts.Command)
	for _, s := range steps {
		c.transcript.command(s.command)
		c.w.WriteString(s.command) // Flush returns the first error
		c.w.WriteString("\r\n")
	}

	if err := c.w.Flush(); err != nil {
		c.broken = true
		return err
	}

	return nil
}

// judge returns the refusal that a reply to a command of the envelope is, nil if
// the transaction may continue.
func (c *conn) judge(p phase, r reply.Reply) (*refusal, error) {
	switch {
	case p == phaseMail && r.Code == 421 && c.messages > 1:
		// The upstream closes a connection between two transactions.
		c.broken = true
		return nil, errStale
	case p == phaseData && r.Code == 354, p != phaseData && r.Code/100 == 2:
		return nil, nil
	case r.Code/100 < 4: // such as 354 to MAIL, or 250 to DATA
		c.broken = true
		return nil, lost(p, fmt.Errorf("unexpected reply %s", r))
	}

	return &refusal{phase: p, reply: r}, nil
}

// afterRefusal resets the connection for the next transaction. After 421 the
// upstream closes it (RFC 5321 section 3.8).
func (c *conn) afterRefusal(r *refusal) {
	if r.reply.Code == 421 {
		c.broken = true
	}
	if c.broken {
		return
	}

	if r, err := c.command("RSET"); err != nil || r.Code/100 != 2 {
		c.broken = true
	}
}

// sendMessage sends the message and reads the final reply.
func (c *conn) sendMessage(ctx context.Context, t *Transaction) Outcome {
	err := c.writeMessage(ctx, t)

	// The message was checked when it came in. A fault in it now is ours, and
	// not a reason to return the mail to its sender. Nothing of it was sent.
	var f *reply.Fault
	if errors.As(err, &f) {
		c.broken = true
		err = reply.Defer(451, reply.EnhancedCode{4, 3, 0}, "Message cannot be handed on, try again later", f)
		return Outcome{Err: err}
	}
	if err != nil {
		c.broken = true
		return Outcome{Err: lost(phaseMessage, err)}
	}
	c.transcript.message(t.size())

	c.setDeadline(ctx, c.timeouts.FinalDot)
	r, err := c.readReply()
	if err == nil && r.Code/100 == 3 {
		c.broken = true
		err = fmt.Errorf("unexpected reply %s", r)
	}
	if err != nil {
		return Outcome{
			Err:      lost(phaseFinalDot, err),
			Doubtful: true,
		}
	}

	if r.Code == 421 { // which closes the connection (RFC 5321 section 3.8)
		c.broken = true
	}

	out := Outcome{Reply: r}
	if r.Code/100 != 2 {
		out = c.outcomeOf(&refusal{phase: phaseFinalDot, reply: r})
	}
	out.answered = true

	return out
}

// writeMessage sends the message and the final dot.
func (c *conn) writeMessage(ctx context.Context, t *Transaction) error {
	c.w.Reset(&deadlineWriter{c: c, ctx: ctx})
	defer c.w.Reset(c.raw)

	if err := message.WriteData(c.w, t.Message...); err != nil {
		return err
	}

	return c.w.Flush()
}

// deadlineWriter gives each block its own time (RFC 5321 section 4.5.3.2.5).
type deadlineWriter struct {
	c   *conn
	ctx context.Context
}

func (w *deadlineWriter) Write(p []byte) (int, error) {
	w.c.setDeadline(w.ctx, w.c.timeouts.Data)
	return w.c.raw.Write(p)
}

// setDeadline sets the deadline of a phase, unless ctx has ended.
func (c *conn) setDeadline(ctx context.Context, d time.Duration) {
	c.raw.SetDeadline(time.Now().Add(d))

	// The end of ctx may have set a deadline just before.
	if ctx.Err() != nil {
		c.raw.SetDeadline(aLongTimeAgo)
	}
}

// notSent returns the error of a command that could not be sent. A connection
// that is dead before MAIL was dead already when it was acquired.
func notSent(p phase, err error) error {
	if p == phaseMail {
		return errStale
	}

	return lost(p, err)
}

// noReply returns the error of a command to which there was no reply.
func noReply(p phase, err error) error {
	if p == phaseMail && !isTimeout(err) && !errors.Is(err, errReply) {
		return errStale
	}

	return lost(p, err)
}

// lost returns the error of a connection that ended in a phase.
func lost(p phase, err error) error {
	return reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "Connection to the upstream was lost, try again later",
		fmt.Errorf("upstream: %s: %w", p, err))
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
