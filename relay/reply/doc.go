// Package reply holds what SMTP servers say: replies with their enhanced status
// codes (RFC 3463), and errors with a class, which one function here turns into
// the reply that a client gets.
package reply
