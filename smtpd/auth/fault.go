package auth

import (
	"errors"

	"postern/relay/reply"
)

var errFailed = reply.Refuse(535, reply.EnhancedCode{5, 7, 8}, "Authentication credentials invalid")

var errSASL = reply.Refuse(501, reply.EnhancedCode{5, 5, 2}, "Malformed authentication response")

// errNotBegun answers an attempt that was not looked at.
func errNotBegun(err error) error {
	if errors.Is(err, errLocked) {
		return errNotNow("Too many failed logins, try again later", err)
	}

	return errNotNow("Temporary authentication failure", err)
}

// errNotNow is 454 while a source or user is locked, or the server is busy.
func errNotNow(text string, cause error) error {
	return reply.Defer(454, reply.EnhancedCode{4, 7, 0}, text, cause)
}

var errLocked = errors.New("too many failed logins")
