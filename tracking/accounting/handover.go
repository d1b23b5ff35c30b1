package accounting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"
)

// A process that receives PowerMTA's records needs no access to the gateway's
// folders: the gateway creates a file and passes it over a socket, opened
// (SCM_RIGHTS, unix(7)). From then on the process writes and syncs the file itself,
// whether or not the gateway still runs. No acknowledgement can get lost and cause a
// record to be written twice.

// handoverTimeout is how long each side of a handover waits for the other.
const handoverTimeout = 10 * time.Second

// maxRefusal is the longest text that is sent instead of a file, in bytes.
const maxRefusal = 1000

// HandOver passes each process that connects to l, a Unix socket, a new file in dir,
// until ctx ends. It closes l. The error is nil if ctx ended.
func HandOver(ctx context.Context, l net.Listener, dir string, log *slog.Logger) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("accounting: %w", err)
	}

	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if c != nil {
				c.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accounting: %w", err)
		}
		if err != nil { // for example, no descriptor is left
			log.Error("accounting: cannot accept a pipe's connection", "err", err)

			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}

			continue
		}

		if err := handOver(c, dir); err != nil {
			log.Error("accounting: cannot pass a file to a pipe", "err", err)
		}
		c.Close()
	}
}

// handOver creates a file and sends it, or the reason why there is none.
func handOver(c net.Conn, dir string) error {
	if err := c.SetDeadline(time.Now().Add(handoverTimeout)); err != nil {
		return err
	}

	u, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%T is not a Unix socket", c)
	}

	f, err := createPipeFile(osPipes{}, dir)
	if err != nil {
		_, sendErr := io.WriteString(c, err.Error())
		return errors.Join(err, sendErr)
	}
	defer f.Close() // the file stays locked as long as the other side has it open

	_, _, err = u.WriteMsgUnix([]byte{'\n'}, syscall.UnixRights(int(f.Fd())), nil)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}

	return nil
}

// Receive returns the file that HandOver sends.
func Receive(c *net.UnixConn) (*os.File, error) { return receive(c, handoverTimeout) }

// receive is Receive with a timeout.
func receive(c *net.UnixConn, timeout time.Duration) (*os.File, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}

	text := make([]byte, maxRefusal)
	oob := make([]byte, syscall.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(text, oob)
	if err != nil {
		return nil, err
	}
	if oobn == 0 {
		return nil, fmt.Errorf("the gateway has no file for records: %s", text[:n])
	}

	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err == nil && len(fds) == 1 {
			syscall.CloseOnExec(fds[0])
			return os.NewFile(uintptr(fds[0]), "the gateway's file for records"), nil
		}

		for _, fd := range fds {
			syscall.Close(fd)
		}
	}

	return nil, errors.New("the gateway sent something other than a file")
}
