package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/localsocket"
)

// listenLocally opens the gateway's Unix sockets.
func (g *gateway) listenLocally() error {
	room := newConnectionLimit(config.SocketConnections)
	err := g.listenOnSocket("admin.socket", g.c.Admin.Socket, g.c.Admin.SocketGroup, &g.adminSockets, room)
	if err != nil || g.accounting == nil {
		return err
	}

	// One connection at a time is served, so that there is no need of a limit.
	a := g.c.Accounting
	if err := g.listenOnSocket("accounting.pipe_socket", a.PipeSocket, a.PipeGroup, &g.pipeSockets, nil); err != nil {
		return err
	}

	return preparePipeDir(a.PipeDir, a.PipeGroup)
}

// preparePipeDir makes the folder where a pipe leaves files while there is no
// gateway: its group may make files there, which are the group's. A folder
// that is there already is the operator's.
func preparePipeDir(dir, group string) error {
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
func (g *gateway) listenOnSocket(key, path, group string, into *[]net.Listener, room *connectionLimit) error {
	if path == "" {
		return nil
	}
	if group != "" && filepath.Dir(path) == filepath.Clean(g.c.StateDir) {
		if err := localsocket.Admit(g.c.StateDir, group); err != nil {
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
	g.use(binding{key: key, addr: path, into: into, room: room}, l)

	return nil
}

// errNoGateway says that no gateway listens on admin.socket.
var errNoGateway = errors.New("no gateway answers on admin.socket")

// commandTimeout is how long a gateway may take to answer a command.
const commandTimeout = time.Minute

// askGateway sends a command's request to the gateway that runs, and returns
// the body of its answer. The error is errNoGateway where none runs.
func askGateway(ctx context.Context, c *config.Config, method, path string, body io.Reader) (io.ReadCloser, error) {
	if c.Admin.Socket == "" {
		return nil, fmt.Errorf(`%w: it is "" in the configuration`, errNoGateway)
	}

	req, err := http.NewRequestWithContext(ctx, method, "http://postern"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set(adminHeader, "command")

	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return localsocket.Dial(ctx, c.Admin.Socket)
		},
	}
	res, err := (&http.Client{Transport: transport, Timeout: commandTimeout}).Do(req)
	if err != nil {
		return nil, explainSocket(c, err)
	}

	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		return nil, errors.New(string(b))
	}

	return res.Body, nil
}

// explainSocket says what to do about an error of the socket.
func explainSocket(c *config.Config, err error) error {
	switch {
	case localsocket.NobodyListens(err):
		return fmt.Errorf("%w: %s", errNoGateway, c.Admin.Socket)
	case errors.Is(err, fs.ErrPermission) && c.Admin.SocketGroup == "":
		return fmt.Errorf("permission denied: %s is for the gateway's user and root; "+
			"[admin] socket_group names a group that may use it too", c.Admin.Socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("permission denied: %s is for the gateway's user, root and members of group %s "+
			"(usermod -aG %s USER)", c.Admin.Socket, c.Admin.SocketGroup, c.Admin.SocketGroup)
	}

	return fmt.Errorf("admin.socket: %w", err)
}

// lockedOut says why neither the gateway nor its spool can be asked.
func lockedOut(gateway, spool error) error {
	return fmt.Errorf("%w, and the spool cannot be opened: %w; a gateway that starts or stops has it: try again, "+
		"and one that runs for long with another configuration answers there", gateway, spool)
}
