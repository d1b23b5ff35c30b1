package smtpd

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on commands.
const (
	maxCommandLine = 12288 + 2 // an AUTH response (RFC 4954 section 4)
	maxDomain      = 255       // of EHLO and HELO (RFC 5321 section 4.5.3.1.2)
	maxUnknown     = 10        // unknown commands of a connection
	maxChunk       = 1<<31 - 1
)

var (
	errLineTooLong = errors.New("smtpd: command line too long")
	errInjection   = errors.New("smtpd: plain text behind STARTTLS")
	errBadChunk    = errors.New("smtpd: BDAT that cannot be understood")
	errEarly       = errors.New("smtpd: commands sent before they may be")
	errNotSMTP     = errors.New("smtpd: the client does not speak SMTP")
	errTooMany     = errors.New("smtpd: too many commands without a message")
)

// command is a command line in parts. There is one reading of a line: the
// library gets it written anew.
type command struct {
	verb string // in upper case; what precedes the first space or tab
	arg  string // without white space around it
}

func parseCommand(line []byte) command {
	s := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
	verb, arg := s, ""
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		verb, arg = s[:i], s[i:]
	}

	return command{verb: upper(verb), arg: strings.Trim(arg, " \t")}
}

// upper returns s with its ASCII letters in upper case: other letters that have
// one of them as their capital are not it.
func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - ('a' - 'A')
		}
	}

	return string(b)
}

// line writes the command for the library.
func (c command) line() []byte {
	if c.arg == "" {
		return []byte(c.verb + "\r\n")
	}

	return []byte(c.verb + " " + c.arg + "\r\n")
}

// chunk is the argument of BDAT (RFC 3030 section 2).
type chunk struct {
	size int64
	last bool
}

func parseChunk(arg string) (chunk, error) {
	f := strings.Fields(arg)
	if len(f) == 0 || len(f) > 2 {
		return chunk{}, errBadChunk
	}
	if len(f) == 2 && upper(f[1]) != "LAST" {
		return chunk{}, errBadChunk
	}

	n, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil || n > maxChunk {
		return chunk{}, errBadChunk
	}

	return chunk{size: int64(n), last: len(f) == 2}, nil
}

// examine looks at a command before the library does, which gets the line that
// is returned; none where the command was answered here.
func (c *conn) examine(line []byte) ([]byte, error) {
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
func (c *conn) answer(cmd command) error {
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
func (c *conn) countCommand(verb string) error {
	c.mu.Lock()
	c.verb = verb
	c.commands++
	tooMany := c.maxCommands > 0 && c.commands > c.maxCommands && !c.trusted
	c.mu.Unlock()

	if tooMany {
		c.writeReply("421 4.7.0 Too many commands without a message, closing connection")
		return c.endNow(errTooMany)
	}

	return nil
}

func (c *conn) examineHello(cmd command) ([]byte, error) {
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
func (c *conn) rejectPipelined() error {
	if len(c.in) == 0 {
		return nil
	}

	c.writeReply("503 5.5.1 Improper use of command pipelining")

	return c.endNow(errEarly)
}

// beginChunks begins a message in chunks. The library knows it as DATA: chunks
// are read here, in the goroutine of the connection.
func (c *conn) beginChunks(cmd command) ([]byte, error) {
	ch, err := parseChunk(cmd.arg)
	if err != nil {
		return nil, c.rejectChunk()
	}

	c.chunk = ch
	if c.needEHLO {
		c.writeReply("503 5.5.1 EHLO first")
		return nil, nil // the chunk is passed over
	}

	return command{verb: "DATA"}.line(), nil
}

// rejectChunk ends the connection: where nobody knows how long a chunk is, it
// would be run as commands.
func (c *conn) rejectChunk() error {
	c.writeReply("501 5.5.4 Malformed BDAT")

	return c.endNow(errBadChunk)
}

// isReply reports whether p is the last line of a reply of a class, which is
// its first digit.
func isReply(p []byte, class byte) bool { return len(p) > 3 && p[0] == class && p[3] == ' ' }

func isRefusal(p []byte) bool { return isReply(p, '4') || isReply(p, '5') }

// libraryReplies are replies of go-smtp whose codes RFC 5321 (sections 4.1.1.11,
// 4.1.4 and 4.2.4) and RFC 4954 (section 4) want otherwise.
var libraryReplies = map[string]string{
	"502 5.5.1 Please introduce yourself first.":          "503 5.5.1 EHLO first",
	"502 5.5.1 Missing MAIL FROM command.":                "503 5.5.1 MAIL first",
	"502 5.5.1 Missing RCPT TO command.":                  "503 5.5.1 RCPT first",
	"502 5.5.4 Missing parameter":                         "501 5.5.4 Missing parameter",
	"501 5.5.2 Bad command":                               "500 5.5.2 Bad command",
	"500 5.5.4 Unknown MAIL FROM argument":                "555 5.5.4 Unknown MAIL parameter",
	"500 5.5.4 Unknown RCPT TO argument":                  "555 5.5.4 Unknown RCPT parameter",
	"500 5.5.4 Malformed AUTH parameter value":            "501 5.5.4 Malformed AUTH parameter value",
	"500 5.5.4 Malformed AUTH parameter mailbox":          "501 5.5.4 Malformed AUTH parameter mailbox",
	"454 4.7.0 Invalid base64 data":                       "501 5.5.2 Invalid base64 data",
	"501 5.0.0 Negotiation cancelled":                     "501 5.7.0 Authentication cancelled",
	"501 5.5.2 Domain/address argument required for HELO": "501 5.5.4 Domain or address literal required",
	"500 5.5.1 Too many errors. Quiting now":              "421 4.7.0 Too many errors, closing connection",
	"421 4.4.2 Idle timeout, bye bye":                     "421 4.4.2 Timeout, closing connection",
	"421 4.4.0 Connection error, sorry":                   "421 4.4.0 Connection error",
	"500 5.4.0 Too long line, closing connection":         "500 5.5.2 Line too long",
	"250 2.0.0 I have successfully done nothing":          "250 2.0.0 Ok",
}

// corrected returns a line of the library's as RFC 5321 wants it.
func corrected(p []byte) []byte {
	if r, ok := libraryReplies[string(bytes.TrimSuffix(p, crlf))]; ok {
		return []byte(r + "\r\n")
	}

	return p
}
