// Package envelope holds the SMTP envelope, what MAIL and RCPT say: addresses and
// their DSN parameters (RFC 3461). It reads and writes addresses, and reads the
// mailboxes in header fields.
//
// Values of this package are plain data. They are safe for concurrent reading.
package envelope
