package wire

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// examine looks at a command line before the library does, and returns the line
// that the library gets, or nil where the command was answered here.
func (c *Conn) examine(line []byte) ([]byte, error) {
	cmd := parseCommand(line)
	if err := c.countCommand(cmd.verb); err != nil {
		return nil, err
	}

	switch cmd.verb {
	case "EHLO", "HELO":
		return c.examineHello(cmd)
	case "STARTTLS":
		return nil, c.startTLS(cmd.arg)
	case "BDAT":
		return c.beginChunks(cmd)
	case "MAIL", "RCPT", "DATA", "AUTH":
		return c.examineMail(cmd)
	case "RSET", "NOOP", "QUIT":
		return cmd.line(), nil
	}

	return nil, c.answer(cmd)
}

// examineHello checks the argument of EHLO and HELO.
func (c *Conn) examineHello(cmd command) ([]byte, error) {
	domain, _, _ := strings.Cut(cmd.arg, " ")
	if len(domain) > maxDomain {
		c.writeReply(replyLongDomain)
		return nil, nil
	}
	if !utf8.ValidString(domain) || strings.ContainsFunc(domain, unicode.IsControl) {
		c.writeReply(replyBadDomain)
		return nil, nil
	}

	if cmd.arg != "" {
		c.needEHLO = false
	}

	return cmd.line(), c.rejectPipelined()
}

// examineMail refuses commands that need an EHLO after STARTTLS.
func (c *Conn) examineMail(cmd command) ([]byte, error) {
	if c.needEHLO {
		c.writeReply(replyEHLOFirst)
		return nil, nil
	}

	if cmd.verb == "DATA" || cmd.verb == "AUTH" {
		return cmd.line(), c.rejectPipelined()
	}

	return cmd.line(), nil
}

// answer answers a command that the library does not get.
func (c *Conn) answer(cmd command) error {
	switch cmd.verb {
	case "VRFY":
		if cmd.arg == "" {
			c.writeReply(replyNoString)
			return nil
		}
		c.writeReply(replyCannotVerify)
	case "HELP":
		c.writeReply(replyHelp)
	case "EXPN", "SEND", "SOML", "SAML", "TURN":
		c.writeReply(replyNotImplemented)
	case "XMRG", "XDFN", "XPRT", "XACK": // PowerMTA's mail merge
		c.writeReply(replyNoMerge)
	case "CONNECT", "GET", "HEAD", "OPTIONS", "POST", "PUT": // a web browser that was led here
		c.writeReply(replyNotHTTP)
		return c.endNow(errNotSMTP)
	default:
		if isBDAT(cmd) {
			return c.rejectChunk()
		}
		c.writeReply(replyUnknown)
		c.countUnknown()
	}

	return nil
}

// isBDAT reports whether an unknown command is a BDAT with a control character
// behind it or a space before it.
func isBDAT(cmd command) bool { return strings.HasPrefix(cmd.verb+upper(cmd.arg), "BDAT") }

// rejectPipelined closes the connection where the client sent something behind a
// command whose reply it has to wait for (RFC 2920 section 3.1). Mail clients do
// not do that.
func (c *Conn) rejectPipelined() error {
	if len(c.in) == 0 {
		return nil
	}

	c.writeReply(replyPipelining)

	return c.endNow(errEarly)
}
