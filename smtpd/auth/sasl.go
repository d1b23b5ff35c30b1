package auth

import (
	"bytes"

	"github.com/emersion/go-sasl"
)

// NewServer returns the server's side of an exchange of AUTH, which calls login
// at its end, or nil for a mechanism other than PLAIN and LOGIN. Its errors are
// *reply.Fault, or login's.
func NewServer(mechanism string, login func(name, password string) error) sasl.Server {
	switch mechanism {
	case sasl.Plain:
		return &plainServer{login: login}
	case sasl.Login:
		return &loginServer{login: login}
	}

	return nil
}

// plainServer is PLAIN (RFC 4616). An authorization identity other than the
// user's own name is refused.
type plainServer struct {
	login func(name, password string) error
	asked bool
}

func (p *plainServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil && !p.asked {
		p.asked = true
		return nil, false, nil
	}

	parts := bytes.SplitN(response, []byte{0}, 3) // a NUL in the password is the Authenticator's to refuse
	if len(parts) != 3 || len(parts[1]) == 0 {
		return nil, false, errSASL
	}
	if len(parts[0]) > 0 && FoldName(string(parts[0])) != FoldName(string(parts[1])) {
		return nil, false, errFailed
	}

	return nil, true, p.login(string(parts[1]), string(parts[2]))
}

// loginServer is LOGIN, which go-sasl has only the client of: two prompts, or
// the name as initial response.
type loginServer struct {
	login func(name, password string) error
	name  *string
	asked bool
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	switch {
	case response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case l.name == nil:
		if len(response) == 0 {
			return nil, false, errSASL
		}
		name := string(response)
		l.name = &name
		return []byte("Password:"), false, nil
	}

	return nil, true, l.login(*l.name, string(response))
}
