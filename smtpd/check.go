package smtpd

import (
	"fmt"

	"postern/relay/message"
	"postern/relay/reply"
)

// Limits on a message's header section.
const (
	maxHeaderBytes = 1 << 20
	maxHeaderLine  = 998 // without CRLF (RFC 5322 section 2.1.1)
	maxReceived    = 100 // more are a loop (RFC 5321 section 6.3)
)

// mediaError is the enhanced code of a malformed message (RFC 3463 section 3.7).
var mediaError = reply.EnhancedCode{5, 6, 0}

// errLoop refuses a message that passed too many servers.
var errLoop = reply.Refuse(554, reply.EnhancedCode{5, 4, 6}, "Too many Received header fields: mail loop")

// malformed returns the error that refuses a message for good.
func malformed(format string, args ...any) error {
	return reply.Refuse(550, mediaError, fmt.Sprintf(format, args...))
}

// checkMessage returns an error unless a message is fit for submission: a header
// section of bounded size and well-formed fields, one of them From, and not too
// many Received.
func checkMessage(msg []byte) error {
	header, _, _ := message.Split(msg)
	if len(header) > maxHeaderBytes {
		return malformed("Header section is larger than %d bytes", maxHeaderBytes)
	}

	var from, received int
	for i, f := range message.Fields(header) {
		switch {
		case f.Name == "":
			return malformed("Header line %d is no header field", i+1)
		case f.Is("X-MSYS-API"):
			continue // it does not leave, however long
		case f.Is("From"):
			from++
		case f.Is("Received"):
			received++
		}

		if longestLine(f.Raw) > maxHeaderLine {
			return malformed("Header field %.64s has a line of more than %d bytes", f.Name, maxHeaderLine)
		}
	}

	switch {
	case from == 0:
		return malformed("Message has no From header field")
	case from > 1:
		return malformed("Message has more than one From header field")
	case received > maxReceived:
		return errLoop
	}

	return nil
}

// longestLine returns the length of the longest line, without its CRLF.
func longestLine(raw []byte) int {
	var longest, n int
	for _, c := range raw {
		if c == '\n' {
			longest = max(longest, n-1)
			n = 0
			continue
		}
		n++
	}

	return max(longest, n)
}
