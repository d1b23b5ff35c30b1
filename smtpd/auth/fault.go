package auth

import (
	"errors"

	"postern/relay/reply"
)

var (
	errFailed = reply.Refuse(535, reply.EnhancedCode{5, 7, 8}, "Authentication credentials invalid")
	errSASL   = reply.Refuse(501, reply.EnhancedCode{5, 5, 2}, "Malformed authentication response")
)

var errLocked = errors.New("too many failed logins")

// notBegun returns the fault for credentials that were not checked.
func notBegun(err error) error {
	if errors.Is(err, errLocked) {
		return deferLogin("Too many failed logins, try again later", err)
	}

	return notNow(err)
}

// notNow returns the fault for credentials that could not be checked.
func notNow(cause error) error { return deferLogin("Temporary authentication failure", cause) }

func deferLogin(text string, cause error) error {
	return reply.Defer(454, reply.EnhancedCode{4, 7, 0}, text, cause)
}
