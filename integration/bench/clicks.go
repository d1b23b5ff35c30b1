package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"postern/tracking/token"
)

// trackerConfig is the configuration of the tracker.
const trackerConfig = `hostname = "t.example.com"
state_dir = "state"
[log]
level = "error"
[tracking]
url = "http://%[1]s"
[tracking.web]
listen = [%[1]q]
[admin]
listen = %[2]q
%[3]s
`

// clickRequest is the request of a click: path prefix, token and host.
const clickRequest = "GET %s%s HTTP/1.1\r\n" +
	"Host: %s\r\n" +
	"User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 " +
	"(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1\r\n" +
	"Accept-Language: en\r\n" +
	"\r\n"

// runClicks measures a tracker with clicks on different links, each an event that
// is durable before the response, and net/http with a fixed redirect.
func runClicks(o options) error {
	conns, err := o.connections()
	if err != nil {
		return err
	}

	dir, err := os.MkdirTemp("", "postern-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	if err := o.build(dir); err != nil {
		return err
	}

	keys, err := makeKeys(filepath.Join(dir, "token.keys"))
	if err != nil {
		return err
	}

	addr, admin := freeAddr(), freeAddr()
	tracker, err := startTracker(dir, o, addr, admin)
	if err != nil {
		return err
	}
	defer tracker.Process.Kill()
	pid := tracker.Process.Pid

	plain := httptest.NewServer(http.RedirectHandler("https://www.example.com/", http.StatusFound))
	defer plain.Close()
	plainAddr := strings.TrimPrefix(plain.URL, "http://")

	fmt.Printf("clicks with durable events, %d cores shared with the load, %s a run\n", runtime.NumCPU(), o.duration)
	printHeader("clicks/s")
	for _, n := range conns {
		printResult("net/http alone", n, clicks(plainAddr, keys, n, o.duration), 0, 0)

		clicks(addr, keys, n, time.Second) // warm up
		before := cpu(pid)
		if o.profile != "" {
			go saveProfile(admin, o)
		}
		r := clicks(addr, keys, n, o.duration)
		used := cpu(pid) - before

		printResult("postern", n, r, r.perThousand(used), peakMiB(pid))
		if r.firstError != "" {
			fmt.Println("first failure:", r.firstError)
		}
	}

	tracker.Process.Signal(syscall.SIGTERM)

	return tracker.Wait()
}

// makeKeys creates a file of token keys.
func makeKeys(file string) (*token.Keys, error) {
	if _, err := token.AddKey(file, time.Now()); err != nil {
		return nil, err
	}

	return token.ReadKeys(file)
}

// startTracker writes the configuration of a tracker to dir and starts it.
func startTracker(dir string, o options, addr, admin string) (*exec.Cmd, error) {
	file := filepath.Join(dir, "postern.toml")
	text := fmt.Appendf(nil, trackerConfig, addr, admin, o.extra)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}

	c := exec.Command(o.binary, "serve", "--role", "tracker", "--config", file)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	waitPort(addr)

	return c, nil
}

// clicks requests links over n persistent connections until the time is over.
func clicks(addr string, keys *token.Keys, n int, d time.Duration) *result {
	var serial atomic.Int64
	return measure(n, d, func(r *result, end time.Time) {
		if err := clickUntil(r, end, addr, keys, &serial); err != nil {
			r.fail(err.Error())
		}
	})
}

// clickUntil requests links over one connection, one after the other.
func clickUntil(r *result, end time.Time, addr string, keys *token.Keys, serial *atomic.Int64) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()

	in := bufio.NewReader(c)
	var req bytes.Buffer
	for time.Now().Before(end) {
		req.Reset()
		fmt.Fprintf(&req, clickRequest, token.PathPrefix, sealClick(keys, addr, serial.Add(1)), addr)

		start := time.Now()
		if _, err := c.Write(req.Bytes()); err != nil {
			return err
		}
		if err := readRedirect(in); err != nil {
			return err
		}
		r.latencies = append(r.latencies, time.Since(start))
	}

	return nil
}

// sealClick returns a token for a link and a recipient of its own.
func sealClick(keys *token.Keys, addr string, serial int64) string {
	n := strconv.FormatInt(serial, 10)

	return keys.Seal(token.Token{
		Kind:      token.Click,
		Host:      token.Host(addr),
		MessageID: keys.NewID(time.Now().Add(-time.Hour)),
		Recipient: "reader" + n + "@example.net",
		Target:    "https://www.example.com/articles/" + n + "?utm_source=newsletter",
	})
}

// readRedirect reads one response, which must be a redirect.
func readRedirect(r *bufio.Reader) error {
	status, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 302") {
		return fmt.Errorf("response %q", strings.TrimRight(status, "\r\n"))
	}

	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}

		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			_, err := r.Discard(length)
			return err
		}
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, _ = strconv.Atoi(v)
		}
	}
}
