package gateway

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"postern/cmd/postern/config"
	"postern/cmd/postern/localsocket"
)

// listenLocally opens the gateway's Unix sockets.
func (g *Gateway) listenLocally() error {
	room := NewConnectionLimit(config.SocketConnections)
	err := g.listenOnSocket("admin.socket", g.C.Admin.Socket, g.C.Admin.SocketGroup, &g.AdminSockets, room)
	if err != nil || g.Accounting == nil {
		return err
	}

	// One connection at a time is served, so that there is no need of a limit.
	a := g.C.Accounting
	if err := g.listenOnSocket("accounting.pipe_socket", a.PipeSocket, a.PipeGroup, &g.PipeSockets, nil); err != nil {
		return err
	}

	return PreparePipeDir(a.PipeDir, a.PipeGroup)
}

// preparePipeDir makes the folder where a pipe leaves files while there is no
// gateway: its group may make files there, which are the group's. A folder
// that is there already is the operator's.
func PreparePipeDir(dir, group string) error {
	if _, err := os.Stat(dir); dir == "" || err == nil {
		return nil
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("accounting.pipe_dir: %w", err)
	}
	if group == "" {
		return nil
	}
	if err := localsocket.Give(dir, group); err != nil {
		return fmt.Errorf("accounting.pipe_dir: %w", err)
	}

	return os.Chmod(dir, os.ModeSetgid|0o770)
}

// listenOnSocket opens one, and lets its group reach it where it is in
// state_dir. A folder outside is the operator's.
func (g *Gateway) listenOnSocket(key, path, group string, into *[]net.Listener, room *connectionLimit) error {
	if path == "" {
		return nil
	}
	if group != "" && filepath.Dir(path) == filepath.Clean(g.C.StateDir) {
		if err := localsocket.Admit(g.C.StateDir, group); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}

	l, err := localsocket.Listen(path, group)
	if errors.Is(err, localsocket.ErrInUse) {
		return fmt.Errorf("%s: %w: a gateway runs with this configuration already", key, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	g.use(Binding{Key: key, Addr: path, into: into, Room: room}, l)

	return nil
}
