// Package dsn writes delivery status notifications (RFC 3464) about messages
// that could not be delivered.
//
// A notification is a multipart/report (RFC 3462) of three parts: text for
// people, the delivery status for programs, and the message or its header.
package dsn
