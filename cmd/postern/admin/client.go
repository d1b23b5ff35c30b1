package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/localsocket"
)

// ErrNoGateway says that no gateway listens on admin.socket.
var ErrNoGateway = errors.New("no gateway answers on admin.socket")

// commandTimeout is how long a gateway may take to answer a command.
const commandTimeout = time.Minute

// Ask sends a command's request to the gateway that runs, and returns
// the body of its answer. The error is ErrNoGateway where none runs.
func Ask(ctx context.Context, c *config.Config, method, path string, body io.Reader) (io.ReadCloser, error) {
	if c.Admin.Socket == "" {
		return nil, fmt.Errorf(`%w: it is "" in the configuration`, ErrNoGateway)
	}

	req, err := http.NewRequestWithContext(ctx, method, "http://postern"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set(Header, "command")

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
		return fmt.Errorf("%w: %s", ErrNoGateway, c.Admin.Socket)
	case errors.Is(err, fs.ErrPermission) && c.Admin.SocketGroup == "":
		return fmt.Errorf("permission denied: %s is for the gateway's user and root; "+
			"[admin] socket_group names a group that may use it too", c.Admin.Socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("permission denied: %s is for the gateway's user, root and members of group %s "+
			"(usermod -aG %s USER)",
			c.Admin.Socket, c.Admin.SocketGroup, c.Admin.SocketGroup)
	}

	return fmt.Errorf("admin.socket: %w", err)
}

// LockedOut says why neither the gateway nor its spool can be asked.
func LockedOut(gateway, spool error) error {
	return fmt.Errorf("%w, and the spool cannot be opened: %w; a gateway that starts or stops has it: try again, "+
		"and one that runs for long with another configuration answers there", gateway, spool)
}
