package wire

import "errors"

// Limits on commands.
const (
	MaxLine    = 12288 + 2 // bytes: a response of AUTH and its CRLF (RFC 4954 section 4)
	maxDomain  = 255       // bytes, of EHLO and HELO (RFC 5321 section 4.5.3.1.2)
	maxUnknown = 10        // unknown commands of a connection
	maxErrors  = 20        // refusals in a row
	maxChunk   = 1<<31 - 1 // bytes
)

var (
	errLineTooLong = errors.New("wire: command line too long")
	errInjection   = errors.New("wire: plain text behind STARTTLS")
	errBadChunk    = errors.New("wire: malformed BDAT")
	errEarly       = errors.New("wire: command did not wait for a reply")
	errNotSMTP     = errors.New("wire: client does not speak SMTP")
	errTooMany     = errors.New("wire: too many commands without a message")
)

// Trust marks the client as one that may submit. Its refused recipients do not
// count as errors, and its commands do not count at all.
func (c *Conn) Trust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trusted = true
}

// MarkAuthenticated trusts a client that has authenticated. STARTTLS is refused
// from then on.
func (c *Conn) MarkAuthenticated() {
	c.authed = true
	c.Trust()
}

// BeginTransaction notes that MAIL was accepted. STARTTLS is refused until
// EndTransaction.
func (c *Conn) BeginTransaction() { c.inMail = true }

// EndTransaction notes that there is no transaction any more.
func (c *Conn) EndTransaction() { c.inMail = false }

// ForgetErrors forgets refusals and commands, because a message was accepted.
func (c *Conn) ForgetErrors() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errors = 0
	c.commands = 0
}

// countCommand counts a command. Clients that are not trusted may give only so
// many without a message.
func (c *Conn) countCommand(verb string) error {
	c.mu.Lock()
	c.verb = verb
	c.commands++
	tooMany := c.cfg.MaxCommands > 0 && c.commands > c.cfg.MaxCommands && !c.trusted
	c.mu.Unlock()
	if !tooMany {
		return nil
	}

	c.writeReply(replyTooMany)

	return c.endNow(errTooMany)
}

// countUnknown counts an unknown command, and closes after too many.
func (c *Conn) countUnknown() {
	c.unknown++
	if c.unknown >= maxUnknown {
		c.closeAfterErrors()
	}
}

// countRefusal closes the connection after the refusal that CloseAfterRefusal
// asked for, and after too many. mu is held.
func (c *Conn) countRefusal(p []byte) {
	if !isRefusal(p) {
		return
	}
	if c.refusal {
		c.last = true
	}
	if c.trusted && c.verb == "RCPT" {
		return
	}

	c.errors++
	if c.errors >= maxErrors {
		c.endErrorsLocked()
	}
}
