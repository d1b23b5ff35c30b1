// Package reply holds SMTP replies (RFC 5321 section 4.2) with their enhanced
// status codes (RFC 3463), and errors with the reply that a client gets for
// them.
//
// Values of this package are plain data.
package reply
