package wire

// Replies that the library never sees, or that end a connection.
const (
	replyLineTooLong    = "500 5.5.2 Line too long"
	replyUnknown        = "500 5.5.1 Unknown command"
	replyNotHTTP        = "500 5.5.1 This is not HTTP"
	replyNotImplemented = "502 5.5.1 Command not implemented"
	replyNoMerge        = "502 5.5.1 Mail merge is not offered"
	replyHelp           = "214 2.0.0 See RFC 5321"
	replyOK             = "250 2.0.0 Ok"
	replyTooManyErrors  = "421 4.7.0 Too many errors, closing connection"
	replyTooMany        = "421 4.7.0 Too many commands without a message, closing connection"
	replyPipelining     = "503 5.5.1 Improper use of command pipelining"

	replyLongDomain = "501 5.5.4 Domain is longer than 255 octets"
	replyBadDomain  = "501 5.5.4 Malformed domain"
	replyEHLOFirst  = "503 5.5.1 EHLO first"

	replyNoString     = "501 5.5.4 VRFY needs a string"
	replyCannotVerify = "252 2.0.0 Cannot verify the user, but will try to deliver" // RFC 5321 section 3.5.3

	replyTLSReady   = "220 2.0.0 Ready to start TLS"
	replyTLSParams  = "501 5.5.4 STARTTLS takes no parameters"
	replyNoTLS      = "502 5.5.1 TLS not supported"
	replyTLSOn      = "503 5.5.1 TLS is on already"
	replyTLSTooLate = "503 5.5.1 Too late for STARTTLS"

	replyContinue  = "250 2.0.0 Continue"
	replyBadChunk  = "501 5.5.4 Malformed BDAT"
	replyInMessage = "503 5.5.1 Not allowed during a message transfer"
)
