package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTicks is the unit of CPU times in /proc, per second: USER_HZ on every Linux
// that Go supports.
const clockTicks = 100

// freeAddr returns an address of the loopback interface with a free port, or "".
func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer l.Close()

	return l.Addr().String()
}

// waitPort waits up to five seconds for a process to listen.
func waitPort(addr string) {
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// saveProfile writes a CPU profile of the gateway to a file. It takes a second less
// than a run.
func saveProfile(admin string, o options) {
	seconds := max(1, int(o.duration.Seconds())-1)
	res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, seconds))
	if err != nil {
		return
	}
	defer res.Body.Close()

	if b, err := io.ReadAll(res.Body); err == nil {
		os.WriteFile(o.profile, b, 0o644)
	}
}

// cpu returns the user and system time that a process has used (proc_pid_stat(5)).
func cpu(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}

	afterName := b[bytes.LastIndexByte(b, ')')+1:]
	fields := strings.Fields(string(afterName))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])

	return time.Duration(user+system) * time.Second / clockTicks
}

// peakMiB returns the peak resident memory of a process.
func peakMiB(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.Atoi(strings.Fields(v)[0])
			return float64(n) / 1024
		}
	}

	return 0
}
