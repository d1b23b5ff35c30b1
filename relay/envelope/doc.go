// Package envelope holds what MAIL and RCPT say: addresses, their DSN parameters
// (RFC 3461), and how both are read and written.
//
// Values of this package are plain data: safe for concurrent reading, not for
// concurrent change.
package envelope
