package smtpd

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/go-crypt/crypt/algorithm/argon2"

	"postern/relay"
	"postern/smtpd/auth"
)

// Sources of clients.
var (
	oneSource   = netip.MustParseAddr("192.0.2.1")
	otherSource = netip.MustParseAddr("192.0.2.2")
)

// cheapPassword hashes a password with less work than HashPassword.
func cheapPassword(password string) string {
	h, err := argon2.New(argon2.WithVariantID(), argon2.WithM(64), argon2.WithT(1), argon2.WithP(1))
	if err != nil {
		panic(err)
	}
	d, err := h.Hash(password)
	if err != nil {
		panic(err)
	}

	return d.Encode()
}

// clientList lists the users that tests log in as.
var clientList = sync.OnceValue(func() []auth.Entry {
	hash := cheapPassword("secret")

	return []auth.Entry{
		{User: relay.User{Name: "alice", Tracking: true}, Password: hash},
		{
			User: relay.User{
				Name:        "bob",
				Tracking:    true,
				FromDomains: []string{"bob.example", "*.bob.example"},
			},
			Password: hash,
		},
		{User: relay.User{Name: "nopass"}},
	}
})

// newClients returns an Authenticator for users.
func newClients(t testing.TB, rate auth.Rate, entries []auth.Entry) *auth.Users {
	t.Helper()
	u, err := auth.NewUsers(rate)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Replace(entries); err != nil {
		t.Fatal(err)
	}

	return u
}

// script is the connection of a client that sends prepared bytes, a line at a
// time, as one that waits for its answers.
type script struct {
	net.Conn
	in []byte
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}

	line := len(s.in)
	if i := bytes.IndexByte(s.in, '\n'); i >= 0 {
		line = i + 1
	}
	n := copy(p[:min(len(p), line)], s.in)
	s.in = s.in[n:]

	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// setup is what a test wants of a server.
type setup struct {
	Config
	Submission
	Reports ReportTaker // nil: a server for submissions
}

func newTestServer(c setup) *Server {
	if c.Reports != nil {
		return NewReports(c.Config, c.Reports)
	}

	return NewSubmission(c.Config, c.Submission)
}

// serveTest serves with TLS from the beginning, or without.
func serveTest(ctx context.Context, s *Server, l net.Listener, implicit bool) error {
	if implicit {
		return s.ServeTLS(ctx, l)
	}

	return s.Serve(ctx, l)
}

// newTestSession returns a session without a connection.
func newTestSession(c setup) *session {
	s := newTestServer(c)

	return &session{srv: s, policy: s.policy, log: s.cfg.Log}
}
