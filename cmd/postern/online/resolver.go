package online

import (
	"context"
	"errors"
	"net"

	"postern/dkim"
)

// TXTResolver returns a resolver for TXT records whose errors name the server
// that was asked. An empty server is the system's.
func TXTResolver(server string) dkim.Resolver {
	if server == "" {
		return net.DefaultResolver
	}

	return &namedResolver{Resolver: resolver(server), server: server}
}

// namedResolver puts the server that was asked into the errors of a resolver,
// which names one of the system's there, whatever its Dial does.
type namedResolver struct {
	*net.Resolver
	server string
}

// LookupTXT implements dkim.Resolver.
func (r *namedResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	txt, err := r.Resolver.LookupTXT(ctx, name)
	var e *net.DNSError
	if errors.As(err, &e) {
		named := *e
		named.Server = r.server
		err = &named
	}

	return txt, err
}

// resolver returns a resolver that asks one server, or the system's.
func resolver(server string) *net.Resolver {
	if server == "" {
		return net.DefaultResolver
	}

	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server)
		},
	}
}
