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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postern/tracking/token"
)

// runClicks loads a tracker alone with clicks, each of a link of its own and
// each an event that is durable before the answer, beside the same requests
// answered by net/http with a fixed redirect.
func runClicks(o options) error {
	dir, err := os.MkdirTemp("", "postern-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := o.build(dir); err != nil {
		return err
	}
	keyFile, config := filepath.Join(dir, "token.keys"), filepath.Join(dir, "postern.toml")
	if _, err := token.AddKey(keyFile, time.Now()); err != nil {
		return err
	}
	keys, err := token.ReadKeys(keyFile)
	if err != nil {
		return err
	}
	addr, admin := freeAddr(), freeAddr()
	if err := os.WriteFile(config, fmt.Appendf(nil, "hostname = \"t.example.com\"\nstate_dir = \"state\"\n[log]\nlevel = \"error\"\n[tracking]\nurl = \"http://%[1]s\"\n[tracking.web]\nlisten = [%[1]q]\n[admin]\nlisten = %[2]q\n%[3]s\n", addr, admin, o.extra), 0o600); err != nil {
		return err
	}
	c := exec.Command(o.binary, "serve", "--role", "tracker", "--config", config)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Process.Kill()
	waitPort(addr)
	plain := httptest.NewServer(http.RedirectHandler("https://www.example.com/", http.StatusFound))
	defer plain.Close()
	fmt.Printf("clicks with durable events, %d cores shared with the load, %s a run\n", runtime.NumCPU(), o.duration)
	fmt.Printf("%-16s %6s %9s %8s %8s %8s %8s %10s %9s %6s\n", "", "conns", "clicks/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "CPU s/1000", "peak MiB", "failed")
	for _, f := range strings.Split(o.conns, ",") {
		n, err := strconv.Atoi(f)
		if err != nil {
			return err
		}
		print("net/http alone", n, clicks(strings.TrimPrefix(plain.URL, "http://"), keys, n, o), 0, 0)
		warm := o
		warm.duration = time.Second
		clicks(addr, keys, n, warm)
		before := cpu(c.Process.Pid)
		if o.profile != "" {
			go saveProfile(admin, o)
		}
		r := clicks(addr, keys, n, o)
		print("postern", n, r, (cpu(c.Process.Pid)-before).Seconds()*1000/float64(max(1, r.sent)), peakMiB(c.Process.Pid))
		if r.firstError != "" {
			fmt.Println("first failure:", r.firstError)
		}
	}
	c.Process.Signal(syscall.SIGTERM)
	return c.Wait()
}

// clicks asks for links over n kept connections, one after the other on each.
func clicks(addr string, keys *token.Keys, n int, o options) *result {
	var mu sync.Mutex
	res := &result{}
	var serial atomic.Int64
	start := time.Now()
	end := start.Add(o.duration)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			mine, err := clickOn(addr, keys, &serial, end)
			mu.Lock()
			defer mu.Unlock()
			res.latencies = append(res.latencies, mine...)
			if err != nil {
				res.failed++
				res.firstError = err.Error()
			}
		})
	}
	wg.Wait()
	res.took = time.Since(start)
	res.sent = len(res.latencies)
	slices.Sort(res.latencies)
	return res
}

func clickOn(addr string, keys *token.Keys, serial *atomic.Int64, end time.Time) (took []time.Duration, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	var req bytes.Buffer
	for time.Now().Before(end) {
		k := serial.Add(1)
		text := keys.Seal(token.Token{Kind: token.Click, Host: token.Host(addr), MessageID: keys.NewID(time.Now().Add(-time.Hour)), Recipient: "reader" + strconv.FormatInt(k, 10) + "@example.net",
			Target: "https://www.example.com/articles/" + strconv.FormatInt(k, 10) + "?utm_source=newsletter"})
		req.Reset()
		fmt.Fprintf(&req, "GET %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1\r\nAccept-Language: en\r\n\r\n", token.PathPrefix, text, addr)
		at := time.Now()
		if _, err := c.Write(req.Bytes()); err != nil {
			return took, err
		}
		if err := readRedirect(r); err != nil {
			return took, err
		}
		took = append(took, time.Since(at))
	}
	return took, nil
}

// readRedirect reads one answer, which has to be a redirect.
func readRedirect(r *bufio.Reader) error {
	status, length := "", 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		if status == "" {
			if status = line; !strings.HasPrefix(status, "HTTP/1.1 302") {
				return fmt.Errorf("answer %q", status)
			}
		}
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, _ = strconv.Atoi(v)
		}
		if line == "" {
			_, err := r.Discard(length)
			return err
		}
	}
}
