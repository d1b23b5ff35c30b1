package upstream

import (
	"context"
	"crypto/tls"
)

// Found is what Probe saw of an upstream.
type Found struct {
	TLS        string // the protocol's version; empty: plain text
	Extensions Extensions
	LoggedIn   bool
}

// Probe opens a session with the upstream at addr as mail would, up to the
// login, and ends it. The error says in which phase it failed.
func Probe(ctx context.Context, c Config, addr string) (Found, error) {
	c.Addrs = []string{addr}
	p := New(c)
	defer p.Close()

	conn, err := p.dialAs(ctx, addr, p.login)
	if err != nil {
		return Found{}, err
	}
	defer conn.quit()

	found := Found{Extensions: conn.ext, LoggedIn: c.Username != ""}
	if t, ok := conn.raw.(*tls.Conn); ok {
		found.TLS = tls.VersionName(t.ConnectionState().Version)
	}

	return found, nil
}
