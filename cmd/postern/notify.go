package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"
)

// notify tells systemd how things are (sd_notify(3)): READY=1, RELOADING=1,
// STOPPING=1, WATCHDOG=1. Where nobody listens it does nothing.
func notify(state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	if socket[0] == '@' { // an abstract name
		socket = "\x00" + socket[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte(state))
}

// watchdog pings as often as systemd's WatchdogSec wants, and half again.
func watchdog(ctx context.Context) {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return
	}
	tick := time.NewTicker(time.Duration(usec) * time.Microsecond / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			notify("WATCHDOG=1")
		case <-ctx.Done():
			return
		}
	}
}
