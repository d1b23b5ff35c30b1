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

func bad(format string, args ...any) error {
	return reply.Refuse(550, reply.EnhancedCode{5, 6, 0}, fmt.Sprintf(format, args...))
}

// checkMessage holds a message to what a submission server may expect of it.
func checkMessage(msg []byte) error {
	header, _, _ := message.Split(msg)
	if len(header) > maxHeaderBytes {
		return bad("Header section is larger than %d bytes", maxHeaderBytes)
	}

	from, received := 0, 0
	for i, f := range message.Fields(header) {
		switch {
		case f.Name == "":
			return bad("Header line %d is no header field", i+1)
		case f.Is("X-MSYS-API"):
			continue // it does not leave, however long
		case f.Is("From"):
			from++
		case f.Is("Received"):
			received++
		}

		if longestLine(f.Raw) > maxHeaderLine {
			return bad("Header field %.64s has a line of more than %d bytes", f.Name, maxHeaderLine)
		}
	}

	switch {
	case from == 0:
		return bad("Message has no From header field")
	case from > 1:
		return bad("Message has more than one From header field")
	case received > maxReceived:
		return reply.Refuse(554, reply.EnhancedCode{5, 4, 6}, "Too many Received header fields: mail loop")
	}

	return nil
}

func longestLine(raw []byte) int {
	longest, n := 0, 0
	for _, c := range raw {
		if c == '\n' {
			longest, n = max(longest, n-1), 0
			continue
		}
		n++
	}

	return max(longest, n)
}
