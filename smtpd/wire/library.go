package wire

import "bytes"

// libraryReplies maps replies of go-smtp to those that RFC 5321 (sections
// 4.1.1.11, 4.1.4 and 4.2.4) and RFC 4954 (section 4) ask for.
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

// corrected returns the right reply for one of the library's.
func corrected(p []byte) []byte {
	if r, ok := libraryReplies[string(bytes.TrimSuffix(p, crlf))]; ok {
		return []byte(r + "\r\n")
	}

	return p
}
