package gateway

import (
	"context"
	"net"
	"net/http"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/tracking/web"
)

// addAdmin adds the operators' listener and socket.
func (g *Gateway) addAdmin() {
	if a := g.cfg.Admin.Listen; a != "" {
		server := g.adminServer(admin.NewHostGuard(g.admin.Open, g.cfg.Config))
		g.bind(binding{
			key:   "admin.listen",
			addr:  string(a),
			name:  "admin",
			stage: carryOn,
			room:  newConnectionLimit(config.AdminConnections),
			serve: func(ctx context.Context, l net.Listener) error {
				return serveHTTP(ctx, server, l, g.lastGrace)
			},
		})
	}

	server := g.adminServer(g.admin.Mux)
	g.bindSocket(socket{
		key:   "admin.socket",
		path:  g.cfg.Admin.Socket,
		group: g.cfg.Admin.SocketGroup,
		stage: carryOn,
		room:  newConnectionLimit(config.SocketConnections),
		serve: func(ctx context.Context, l net.Listener) error {
			return serveHTTP(ctx, server, l, g.lastGrace)
		},
	})
}

// adminServer returns a server without a bound on the time of an answer:
// profiles and the demo's stream take theirs.
func (g *Gateway) adminServer(h http.Handler) *http.Server {
	s := web.NewServer(h, g.log)
	s.WriteTimeout = 0

	return s
}
