package auth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/relay"
)

// Limits on what a login may hold, in bytes. The users file has the same.
const (
	MaxName     = 320
	maxPassword = 1024
)

const subaccountSuffix = ":X-MSYS-SUBACCOUNT="

// FoldName returns a user's name as names are compared: without ASCII case.
// Everything that knows users by name uses it.
func FoldName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}

	return string(b)
}

// CheckName returns an error for what cannot be a user's name.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("missing")
	case len(name) > MaxName:
		return fmt.Errorf("longer than %d bytes", MaxName)
	case !utf8.ValidString(name):
		return errors.New("not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("must not hold control characters")
	}
	if user, _, _ := splitName(name); user != name {
		return fmt.Errorf("must not hold %s", subaccountSuffix)
	}

	return nil
}

// CheckPassword returns an error for what cannot be a password: NUL separates
// the fields of AUTH PLAIN (RFC 4616), and other programs end lines and strings
// at other controls.
func CheckPassword(password string) error {
	switch {
	case len(password) > maxPassword:
		return fmt.Errorf("longer than %d bytes", maxPassword)
	case strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("must not hold control characters")
	}

	return nil
}

// loginName is the name that a client logs in with, in parts.
type loginName struct {
	user       string // as the client gave it
	subaccount uint32 // 0: none
}

// key returns what counters and settings know the user by.
func (n loginName) key() string { return FoldName(n.user) }

// withSubaccount returns the user with the login's subaccount, unless the user
// has its own, which is the account's boundary.
func (n loginName) withSubaccount(u relay.User) relay.User {
	if u.Subaccount == 0 {
		u.Subaccount = n.subaccount
	}

	return u
}

// parseLogin is the one reading of a login, for every Authenticator.
func parseLogin(l Credentials) (loginName, error) {
	user, suffix, has := splitName(l.Name)
	if err := CheckName(user); err != nil {
		return loginName{}, fmt.Errorf("user name: %w", err)
	}
	if err := CheckPassword(l.Password); err != nil {
		return loginName{}, fmt.Errorf("password: %w", err)
	}
	if !has {
		return loginName{user: user}, nil
	}

	n, err := strconv.ParseUint(suffix, 10, 32)
	if err != nil || n == 0 {
		return loginName{}, errors.New("user name: subaccount is not a number greater than zero")
	}

	return loginName{user: user, subaccount: uint32(n)}, nil
}

// splitName divides a login's name at its first subaccount suffix, whose case
// does not matter.
func splitName(name string) (user, suffix string, has bool) {
	i := strings.Index(FoldName(name), FoldName(subaccountSuffix))
	if i < 0 {
		return name, "", false
	}

	return name[:i], name[i+len(subaccountSuffix):], true
}
