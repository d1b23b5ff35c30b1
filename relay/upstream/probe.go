package upstream

import (
	"context"
	"crypto/tls"
)

// Found is what Probe learned of an upstream.
type Found struct {
	TLS        string // version of the protocol; empty: plain text
	Extensions Extensions
	LoggedIn   bool
}

// Probe opens a session with the upstream at addr as mail would, up to the
// login, and closes it. The error names the phase that failed.
func Probe(ctx context.Context, c Config, addr string) (Found, error) {
	c.Addrs = []string{addr}
	p := New(c)
	defer p.Close()

	conn, err := p.dialAddr(ctx, addr, p.login)
	if err != nil {
		return Found{}, err
	}
	defer conn.quit()

	found := Found{
		Extensions: conn.ext,
		LoggedIn:   c.Username != "",
	}
	if tc, ok := conn.raw.(*tls.Conn); ok {
		found.TLS = tls.VersionName(tc.ConnectionState().Version)
	}

	return found, nil
}
