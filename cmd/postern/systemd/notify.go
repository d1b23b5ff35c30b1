package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier tells the service manager how things are, as in sd_notify(3):
// READY=1, RELOADING=1, STOPPING=1, WATCHDOG=1. Where there is none, it does
// nothing.
type Notifier struct {
	socket   string        // empty: nobody listens
	watchdog time.Duration // within which a sign of life is expected; 0: none is
}

// notifyTimeout bounds the wait for a service manager that does not read.
const notifyTimeout = time.Second

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. A watchdog
// that is meant for another process is none, as in sd_watchdog_enabled(3).
func NewNotifier(getenv func(string) string) *Notifier {
	n := &Notifier{socket: getenv("NOTIFY_SOCKET")}
	if n.socket != "" && n.socket[0] == '@' { // an abstract name
		n.socket = "\x00" + n.socket[1:]
	}

	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	pid := getenv("WATCHDOG_PID")
	if err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}

	return n
}

// Send sends one message. Errors are nobody's concern: the service manager
// notices what it does not hear.
func (n *Notifier) Send(state string) {
	if n == nil || n.socket == "" {
		return
	}

	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()

	_ = c.SetWriteDeadline(time.Now().Add(notifyTimeout))
	_, _ = c.Write([]byte(state))
}

// Reloading says that a reload begins. Type=notify-reload wants the time on
// the monotonic clock with it.
func (n *Notifier) Reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		n.Send("RELOADING=1")
		return
	}

	n.Send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

// ServeWatchdog gives a sign of life twice in the time that the watchdog
// allows, as long as alive returns nil, until ctx ends. What alive complains
// of is logged when it begins and when it ends.
func (n *Notifier) ServeWatchdog(ctx context.Context, alive func() error, log *slog.Logger) {
	every := healthEvery
	if n.watchdog > 0 {
		every = min(every, n.watchdog/2)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()

	stuck := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}

		stuck = n.beat(alive(), stuck, log)
	}
}

// healthEvery is how often the parts are looked at without a watchdog.
const healthEvery = 10 * time.Second

// beat is one round of serveWatchdog; it returns whether a part is stuck.
func (n *Notifier) beat(err error, wasStuck bool, log *slog.Logger) bool {
	switch {
	case err != nil && !wasStuck:
		log.Error("a part of the gateway is stuck, the watchdog is not told that all is well", "err", err)
	case err == nil && wasStuck:
		log.Info("all parts of the gateway go on again")
	}

	if err == nil && n.watchdog > 0 {
		n.Send("WATCHDOG=1")
	}

	return err != nil
}
