package config

import (
	"path/filepath"

	"postern/cmd/postern/localsocket"
)

// checkSockets makes the paths of the Unix sockets absolute, which are relative to
// state_dir, and checks that their groups exist.
func (b *binder) checkSockets(c *Config) {
	c.Admin.Socket = inStateDir(c, c.Admin.Socket)
	b.checkGroup("admin.socket_group", c.Admin.SocketGroup)

	a := &c.Accounting
	if a.PipeSocket == "" {
		a.PipeSocket = "pipe.sock"
	}
	a.PipeSocket = inStateDir(c, a.PipeSocket)
	a.PipeDir = b.Path(a.PipeDir)

	b.checkGroup("accounting.pipe_group", a.PipeGroup)
	if a.PipeGroup == "" {
		a.PipeGroup = c.Admin.SocketGroup
	}

	if a.PipeSocket == c.Admin.Socket {
		b.problem("accounting.pipe_socket", "%s is admin.socket already", c.Admin.Socket)
	}
	if c.Admin.Socket == "" && c.Admin.SocketGroup != "" {
		b.warn("admin.socket_group", `has no effect: admin.socket is ""`)
	}
}

// inStateDir returns the path of a file in state_dir.
func inStateDir(c *Config, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}

	return filepath.Join(c.StateDir, name)
}

// checkGroup checks that a group of the system exists, if one is named.
func (b *binder) checkGroup(key, group string) {
	if group == "" {
		return
	}
	if _, err := localsocket.GroupID(group); err != nil {
		b.problem(key, "%v", err)
	}
}
