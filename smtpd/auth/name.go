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

// Limits on names and passwords, in bytes.
const (
	MaxName     = 320 // without a subaccount
	maxPassword = 1024
)

// subaccountSuffix follows the name of a user who logs in for a subaccount, whose
// number follows it.
const subaccountSuffix = ":X-MSYS-SUBACCOUNT="

// FoldName returns a user's name with ASCII letters in lower case. Users are the
// same if their folded names are.
func FoldName(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}

	return string(b)
}

// CheckName returns an error if a name cannot be a user's.
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

// CheckPassword returns an error if a password is too long or contains control
// characters. NUL separates the fields of AUTH PLAIN (RFC 4616 section 2), and
// others end lines and strings elsewhere.
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

// key returns the name that counters and settings are kept under.
func (n loginName) key() string { return FoldName(n.user) }

// withSubaccount returns the user with the login's subaccount, unless the users
// file assigns one, which a login cannot leave.
func (n loginName) withSubaccount(u relay.User) relay.User {
	if u.Subaccount == 0 {
		u.Subaccount = n.subaccount
	}

	return u
}

// parseLogin checks credentials and takes the name apart. Every Authenticator
// uses it.
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

// splitName splits a login's name at its first subaccount suffix, in whatever
// case.
func splitName(name string) (user, suffix string, has bool) {
	i := strings.Index(FoldName(name), FoldName(subaccountSuffix))
	if i < 0 {
		return name, "", false
	}

	return name[:i], name[i+len(subaccountSuffix):], true
}
