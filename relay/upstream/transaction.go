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

// Transaction is one copy for one recipient, as it goes out. Message holds the
// whole message with CRLF line ends, the parts in order.
type Transaction struct {
	From      envelope.Address
	Recipient envelope.Recipient
	Params    envelope.MailParams
	Message   [][]byte
	EightBit  bool // the message has bytes above 0x7f

	Session   string // of the client, for the log
	MessageID string // of the copy, for the log
}

// Outcome is what became of a transaction. Err is nil where the upstream gave
// a final reply, whatever its code. Doubtful is set where the whole message
// was sent and no reply came: it may have been taken.
type Outcome struct {
	Upstream string
	Reply    reply.Reply
	Err      error
	Doubtful bool

	answered bool // the final dot was replied to, whatever the reply
}

// Accepted reports whether the upstream took the message.
func (o Outcome) Accepted() bool { return o.Err == nil && o.Reply.Code/100 == 2 }

// Permanent reports whether it was refused for good, by the upstream or because
// the upstream lacks what it needs.
func (o Outcome) Permanent() bool {
	var f *reply.Fault
	if errors.As(o.Err, &f) {
		return f.Class == reply.Permanent
	}

	return o.Err == nil && o.Reply.Code/100 == 5 && !concernsSession(phaseFinalDot, o.Reply)
}

func (t *Transaction) size() int {
	n := 0
	for _, b := range t.Message {
		n += len(b)
	}

	return n
}

// mailCommand writes MAIL with the parameters that the upstream knows.
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

	if ext.Has("DSN") {
		if t.Params.Return != "" {
			b.WriteString(" RET=" + t.Params.Return)
		}
		if t.Params.EnvelopeID != "" {
			b.WriteString(" ENVID=" + envelope.Xtext(t.Params.EnvelopeID))
		}
	}

	return b.String()
}

func (t *Transaction) rcptCommand(ext Extensions) string {
	s := "RCPT TO:" + t.Recipient.Address.Path()
	if !ext.Has("DSN") {
		return s
	}

	r := t.Recipient
	if len(r.Notify) > 0 {
		s += " NOTIFY=" + strings.Join(r.Notify, ",")
	}
	switch {
	case r.Original == "":
	case r.OriginalType == "utf-8":
		s += " ORCPT=utf-8;" + envelope.UTF8Xtext(r.Original)
	default:
		s += " ORCPT=" + r.OriginalType + ";" + envelope.Xtext(r.Original)
	}

	return s
}

// lost is a connection that ended in a phase: temporary, whatever the phase.
func lost(p phase, err error) error {
	return reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "Connection to the upstream was lost, try again later",
		fmt.Errorf("upstream: %s: %w", p, err))
}

// ErrEightBit says that a message has 8-bit content and the upstream does not
// offer 8BITMIME; nothing was sent.
var ErrEightBit = errors.New("upstream does not offer 8BITMIME")

// errUTF8 says that a transaction needs SMTPUTF8 and the upstream does not
// offer it; nothing was sent.
var errUTF8 = errors.New("upstream does not offer SMTPUTF8")

// international reports whether an address of the envelope needs SMTPUTF8.
func (t *Transaction) international() bool {
	return !t.From.IsASCII() || !t.Recipient.Address.IsASCII()
}

// needs returns an error where a transaction cannot do without an extension that
// is not offered.
func (t *Transaction) needs(ext Extensions) error {
	if !ext.Has("SMTPUTF8") && (t.Params.UTF8 && t.Params.NeedsUTF8 || t.international()) {
		f := reply.Refuse(550, reply.EnhancedCode{5, 6, 7}, "Upstream does not take internationalised addresses or headers")
		f.Err = errUTF8
		return f
	}

	if t.EightBit && !ext.Has("8BITMIME") {
		f := reply.Refuse(550, reply.EnhancedCode{5, 6, 3}, "Message has 8-bit content and the upstream does not offer 8BITMIME")
		f.Err = ErrEightBit
		return f
	}

	return nil
}

// transaction runs MAIL to the final dot.
func (c *conn) transaction(ctx context.Context, t *Transaction) Outcome {
	c.messages++
	c.said.session, c.said.messageID = t.Session, t.MessageID
	if err := t.needs(c.ext); err != nil {
		return Outcome{Err: err}
	}

	stop := context.AfterFunc(ctx, func() { c.raw.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			c.broken = true
		}
	}()

	refusal, err := c.envelope(ctx, t)
	if err != nil {
		return Outcome{Err: err}
	}
	if refusal != nil {
		return c.checkSession(refused(refusal.phase, refusal.reply))
	}

	return c.data(ctx, t)
}

// checkSession lets no further transaction go over a connection on which the
// upstream does not want us.
func (c *conn) checkSession(o Outcome) Outcome {
	if errors.Is(o.Err, ErrSession) {
		c.broken = true
	}

	return o
}

// refusal is a reply that ends a transaction before its message was sent.
type refusal struct {
	phase phase
	reply reply.Reply
}

// close421: a server that says 421 closes (RFC 5321 section 3.8).
func (c *conn) close421(r reply.Reply) {
	if r.Code == 421 {
		c.broken = true
	}
}

// deadline sets a phase's deadline, unless ctx has ended meanwhile.
func (c *conn) deadline(ctx context.Context, d time.Duration) {
	c.raw.SetDeadline(time.Now().Add(d))
	if ctx.Err() != nil { // its own deadline may have come before ours
		c.raw.SetDeadline(time.Unix(1, 0))
	}
}

// envelope sends MAIL, RCPT and DATA, in one flight where it may. Without a
// refusal and an error the upstream waits for the message.
func (c *conn) envelope(ctx context.Context, t *Transaction) (*refusal, error) {
	commands := [3]string{t.mailCommand(c.ext), t.rcptCommand(c.ext), "DATA"}
	phases := [3]phase{phaseMail, phaseRcpt, phaseData}
	pipelined := c.ext.Has("PIPELINING")

	var first *refusal
	sent, waiting := 0, false
	for i, p := range phases {
		if sent <= i {
			n := i + 1
			if pipelined {
				n = len(commands)
			}
			c.deadline(ctx, c.t.Command)
			if err := c.flight(commands[sent:n]); err != nil {
				return nil, notTaken(p, err)
			}
			sent = n
		}

		r, err := c.readReply()
		switch {
		case err != nil && first != nil: // it refused, and closed before the other replies
			return first, nil
		case err != nil && i == 0 && !isTimeout(err) && !errors.Is(err, errReply):
			return nil, errStale
		case err != nil:
			return nil, lost(p, err)
		case i == 0 && r.Code == 421 && c.messages > 1:
			// The upstream ends the connection between two transactions.
			c.broken = true
			return nil, errStale
		case p != phaseData && r.Code/100 == 2:
			continue
		case p == phaseData && r.Code == 354:
			waiting = true
			continue
		case r.Code/100 < 4: // 251 and the like are above; a 354 to MAIL is nonsense
			c.broken = true
			return nil, lost(p, fmt.Errorf("unexpected answer %s", r))
		}

		if first == nil {
			first = &refusal{phase: p, reply: r}
		}
		if !pipelined || r.Code == 421 {
			break
		}
	}

	if first != nil {
		c.afterRefusal(first.reply.Code == 421 || waiting)
	}

	return first, nil
}

// flight sends commands without waiting for their replies.
func (c *conn) flight(commands []string) error {
	for _, line := range commands {
		c.said.command(line)
		c.w.WriteString(line) // bufio keeps the first error
		c.w.WriteString("\r\n")
	}

	if err := c.w.Flush(); err != nil {
		c.broken = true
		return err
	}

	return nil
}

// notTaken is the error of a phase whose command could not be sent. Before MAIL
// the connection was dead already.
func notTaken(p phase, err error) error {
	if p == phaseMail {
		return errStale
	}

	return lost(p, err)
}

// afterRefusal brings the connection back to where a new MAIL may come. One
// whose upstream says 421, or waits for a message that nobody is to get, ends.
func (c *conn) afterRefusal(over bool) {
	c.broken = c.broken || over
	if c.broken {
		return
	}

	if r, err := c.command("RSET"); err != nil || r.Code/100 != 2 {
		c.broken = true
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// data sends the message and reads the final reply.
func (c *conn) data(ctx context.Context, t *Transaction) Outcome {
	w := &deadlineWriter{c: c, ctx: ctx}
	c.w.Reset(w)
	err := message.WriteData(c.w, t.Message...)
	if err == nil {
		err = c.w.Flush()
	}
	c.w.Reset(c.raw)

	var f *reply.Fault
	if errors.As(err, &f) {
		// Nothing was written of it. What came in passed the same check, so that
		// the fault is ours, and no reason to return the mail to its sender.
		c.broken = true
		return Outcome{Err: reply.Defer(451, reply.EnhancedCode{4, 3, 0}, "Message cannot be handed on, try again later", f)}
	}
	if err != nil {
		c.broken = true
		return Outcome{Err: lost(phaseMessage, err)}
	}
	c.said.message(t.size())

	c.deadline(ctx, c.t.FinalDot)
	r, err := c.readReply()
	if err != nil {
		return Outcome{Err: lost(phaseFinalDot, err), Doubtful: true}
	}
	if r.Code/100 != 2 && r.Code/100 < 4 {
		c.broken = true
		return Outcome{Err: lost(phaseFinalDot, fmt.Errorf("unexpected answer %s", r)), Doubtful: true}
	}

	c.close421(r)

	out := Outcome{Reply: r}
	if r.Code/100 != 2 {
		out = c.checkSession(refused(phaseFinalDot, r))
	}
	out.answered = true

	return out
}

// deadlineWriter gives each block the time that RFC 5321 section 4.5.3.2.5
// gives it.
type deadlineWriter struct {
	c   *conn
	ctx context.Context
}

func (w *deadlineWriter) Write(p []byte) (int, error) {
	w.c.deadline(w.ctx, w.c.t.Data)
	return w.c.raw.Write(p)
}
