package wire

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on commands.
const (
	MaxLine    = 12288 + 2 // an AUTH response (RFC 4954 section 4)
	maxDomain  = 255       // of EHLO and HELO (RFC 5321 section 4.5.3.1.2)
	maxUnknown = 10        // unknown commands of a connection
	maxChunk   = 1<<31 - 1
)

var (
	errLineTooLong = errors.New("smtp: command line too long")
	errInjection   = errors.New("smtp: plain text behind STARTTLS")
	errBadChunk    = errors.New("smtp: BDAT that cannot be understood")
	errEarly       = errors.New("smtp: commands sent before they may be")
	errNotSMTP     = errors.New("smtp: the client does not speak SMTP")
	errTooMany     = errors.New("smtp: too many commands without a message")
)

// examine looks at a command before the library does, which gets the line that
// is returned; none where the command was answered here.
func (c *Conn) examine(line []byte) ([]byte, error) {
	cmd := parseCommand(line)
	if err := c.countCommand(cmd.verb); err != nil {
		return nil, err
	}

	switch cmd.verb {
	case "EHLO", "HELO":
		return c.examineHello(cmd)
	case "STARTTLS":
		return nil, c.startTLS(cmd.arg != "")
	case "BDAT":
		return c.beginChunks(cmd)
	case "MAIL", "RCPT", "DATA", "AUTH":
		if c.needEHLO {
			c.writeReply("503 5.5.1 EHLO first")
			return nil, nil
		}
		if cmd.verb == "DATA" || cmd.verb == "AUTH" {
			return cmd.line(), c.rejectPipelined()
		}
		return cmd.line(), nil
	case "RSET", "NOOP", "QUIT":
		return cmd.line(), nil
	}

	return nil, c.answer(cmd)
}

// answer answers what the library need not see.
func (c *Conn) answer(cmd command) error {
	switch cmd.verb {
	case "VRFY":
		if cmd.arg == "" {
			c.writeReply("501 5.5.4 VRFY needs a string")
			return nil
		}
		c.writeReply("252 2.0.0 Cannot verify the user, but will try to deliver") // RFC 5321 section 3.5.3
	case "HELP":
		c.writeReply("214 2.0.0 See RFC 5321")
	case "EXPN", "SEND", "SOML", "SAML", "TURN":
		c.writeReply("502 5.5.1 Command not implemented")
	case "XMRG", "XDFN", "XPRT", "XACK": // PowerMTA's mail merge
		c.writeReply("502 5.5.1 Mail merge is not offered")
	case "CONNECT", "GET", "HEAD", "OPTIONS", "POST", "PUT": // a web browser that was led here
		c.writeReply("500 5.5.1 This is not HTTP")
		return c.endNow(errNotSMTP)
	default:
		if strings.HasPrefix(cmd.verb+upper(cmd.arg), "BDAT") { // with a control behind it, or a space before it
			return c.rejectChunk()
		}
		c.writeReply("500 5.5.1 Unknown command")
		c.unknown++
		if c.unknown >= maxUnknown {
			c.closeAfterErrors()
		}
	}

	return nil
}

// countCommand bounds the commands of a client that nobody vouches for: so
// many, and no message among them, are not mail.
func (c *Conn) countCommand(verb string) error {
	c.mu.Lock()
	c.verb = verb
	c.commands++
	tooMany := c.cfg.MaxCommands > 0 && c.commands > c.cfg.MaxCommands && !c.trusted
	c.mu.Unlock()

	if tooMany {
		c.writeReply("421 4.7.0 Too many commands without a message, closing connection")
		return c.endNow(errTooMany)
	}

	return nil
}

func (c *Conn) examineHello(cmd command) ([]byte, error) {
	domain, _, _ := strings.Cut(cmd.arg, " ")
	switch {
	case len(domain) > maxDomain:
		c.writeReply("501 5.5.4 Domain is longer than 255 octets")
		return nil, nil
	case !utf8.ValidString(domain) || strings.ContainsFunc(domain, unicode.IsControl):
		c.writeReply("501 5.5.4 Malformed domain")
		return nil, nil
	}
	if cmd.arg != "" {
		c.needEHLO = false
	}

	return cmd.line(), c.rejectPipelined()
}

// rejectPipelined accepts nothing behind a command whose answer decides what
// may follow (RFC 2920 section 3.1): who does not wait for it is not a mail
// client.
func (c *Conn) rejectPipelined() error {
	if len(c.in) == 0 {
		return nil
	}

	c.writeReply("503 5.5.1 Improper use of command pipelining")

	return c.endNow(errEarly)
}
