package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"postern/cmd/postern/localsocket"
)

// socket is a Unix socket of the configuration, and what serves it.
type socket struct {
	key   string
	path  string
	group string // which may use it; empty: none
	stage stage
	room  *connectionLimit // nil: one connection at a time is served
	serve func(ctx context.Context, l net.Listener) error
}

// bindSocket adds a socket to listen on, unless its path is empty.
func (g *Gateway) bindSocket(s socket) {
	if s.path != "" {
		g.sockets = append(g.sockets, s)
	}
}

// listenLocally opens the gateway's Unix sockets, the admin socket first.
func (g *Gateway) listenLocally() error {
	for _, s := range g.sockets {
		if err := g.listenOnSocket(s); err != nil {
			return named(s.key, err)
		}
	}

	return nil
}

// listenOnSocket opens one, and lets its group reach it where it is in
// state_dir. A folder outside is the operator's.
func (g *Gateway) listenOnSocket(s socket) error {
	if s.group != "" && filepath.Dir(s.path) == filepath.Clean(g.cfg.StateDir) {
		if err := localsocket.Admit(g.cfg.StateDir, s.group); err != nil {
			return err
		}
	}

	l, err := localsocket.Listen(s.path, s.group)
	if errors.Is(err, localsocket.ErrInUse) {
		return fmt.Errorf("%w: a gateway runs with this configuration already", err)
	}
	if err != nil {
		return err
	}

	g.serveOn(binding{
		key:   s.key,
		addr:  s.path,
		name:  s.key,
		stage: s.stage,
		room:  s.room,
		serve: s.serve,
	}, l)
	return nil
}

// preparePipeDir makes the folder where a pipe leaves files while there is no
// gateway: its group may make files there, which are the group's. A folder
// that is there already is the operator's.
func preparePipeDir(dir, group string) error {
	if _, err := os.Stat(dir); dir == "" || err == nil {
		return nil
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if group == "" {
		return nil
	}
	if err := localsocket.Give(dir, group); err != nil {
		return err
	}

	return os.Chmod(dir, os.ModeSetgid|0o770)
}
