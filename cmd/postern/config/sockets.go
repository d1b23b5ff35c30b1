package config

import (
	"path/filepath"

	"postern/cmd/postern/localsocket"
)

// checkSockets makes the paths of sockets absolute, which are relative to
// state_dir, and wants their groups to exist.
func (b *binder) checkSockets(c *Config) {
	c.Admin.Socket = inStateDir(c, c.Admin.Socket)
	b.checkGroup("admin.socket_group", c.Admin.SocketGroup)
	if c.Accounting.PipeSocket == "" {
		c.Accounting.PipeSocket = "pipe.sock"
	}
	c.Accounting.PipeSocket = inStateDir(c, c.Accounting.PipeSocket)
	c.Accounting.PipeDir = b.Path(c.Accounting.PipeDir)
	b.checkGroup("accounting.pipe_group", c.Accounting.PipeGroup)
	if c.Accounting.PipeGroup == "" {
		c.Accounting.PipeGroup = c.Admin.SocketGroup
	}
	if c.Accounting.PipeSocket == c.Admin.Socket {
		b.problem("accounting.pipe_socket", "%s is admin.socket already", c.Admin.Socket)
	}
	if c.Admin.Socket == "" && c.Admin.SocketGroup != "" {
		b.warn("admin.socket_group", `has no effect: admin.socket is ""`)
	}
}

// inStateDir returns the path of a file of state_dir.
func inStateDir(c *Config, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}

	return filepath.Join(c.StateDir, name)
}

func (b *binder) checkGroup(key, group string) {
	if group == "" {
		return
	}
	if _, err := localsocket.GroupID(group); err != nil {
		b.problem(key, "%v", err)
	}
}
