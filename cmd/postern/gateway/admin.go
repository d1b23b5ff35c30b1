package gateway

import (
	"context"
	"net"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/tracking/web"
)

// addAdmin adds the operators' listener and socket.
func (g *Gateway) addAdmin() {
	if a := g.cfg.Admin.Listen; a != "" {
		server := web.NewServer(admin.NewHostGuard(g.admin.Open, g.cfg.Config), g.log)
		server.WriteTimeout = 0 // the demo's stream takes its time
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

	server := web.NewServer(g.admin.Mux, g.log)
	server.WriteTimeout = 0 // profiles take their time
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
