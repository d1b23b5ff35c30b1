package auth

import (
	"bytes"

	"github.com/emersion/go-sasl"
)

// NewServer returns the server side of an exchange of AUTH, or nil for mechanisms
// other than PLAIN and LOGIN. It calls login at the end of the exchange. Its
// errors are *reply.Fault, or those of login.
func NewServer(mechanism string, login func(name, password string) error) sasl.Server {
	switch mechanism {
	case sasl.Plain:
		return &plainServer{login: login}
	case sasl.Login:
		return &loginServer{login: login}
	}

	return nil
}

// plainServer is PLAIN (RFC 4616). The authorization identity must be empty or
// the user's name.
type plainServer struct {
	login func(name, password string) error
	asked bool
}

// Next implements sasl.Server.
func (p *plainServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil && !p.asked {
		p.asked = true
		return nil, false, nil
	}

	parts := bytes.SplitN(response, []byte{0}, 3) // login refuses a NUL in the password
	if len(parts) != 3 {
		return nil, false, errSASL
	}

	identity, name := string(parts[0]), string(parts[1])
	if name == "" {
		return nil, false, errSASL
	}
	if identity != "" && FoldName(identity) != FoldName(name) {
		return nil, false, errFailed
	}

	return nil, true, p.login(name, string(parts[2]))
}

// loginServer is LOGIN (draft-murchison-sasl-login), of which go-sasl has only
// the client: two prompts, or one where the name is the initial response.
type loginServer struct {
	login func(name, password string) error
	name  string // "": not known yet
	asked bool
}

// Next implements sasl.Server.
func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil && !l.asked {
		l.asked = true
		return []byte("Username:"), false, nil
	}
	if l.name != "" {
		return nil, true, l.login(l.name, string(response))
	}
	if len(response) == 0 {
		return nil, false, errSASL
	}

	l.name = string(response)

	return []byte("Password:"), false, nil
}
