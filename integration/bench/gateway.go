package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern/cmd/postern/config"
	"postern/smtpd"
)

// build makes a gateway in dir, unless one is given.
func (o *options) build(dir string) error {
	if o.binary != "" {
		return nil
	}
	o.binary = filepath.Join(dir, "postern")
	if out, err := exec.Command("go", "build", "-o", o.binary, "postern/cmd/postern").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func run(o options) error {
	msg, err := message(o.kind)
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
	sinkAddr, ingestAddr, submission, admin := freeAddr(), freeAddr(), freeAddr(), freeAddr()
	for _, p := range []struct{ role, addr string }{{"sink", sinkAddr}, {"ingest", ingestAddr}} {
		c := exec.Command(os.Args[0], "-role", p.role, "-listen", p.addr, "-delay", o.delay.String(), "-ingest-status", strconv.Itoa(o.ingest))
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			return err
		}
		defer c.Process.Kill()
		waitPort(p.addr)
	}
	gateway, err := startGateway(dir, o, submission, sinkAddr, ingestAddr, admin)
	if err != nil {
		return err
	}
	defer gateway.Process.Kill()
	fmt.Printf("%s, %d bytes, sink pause %s, one-shot %v, queue %s, %d cores, %s a run\n", o.kind, len(msg), o.delay, o.oneshot, o.queue, runtime.NumCPU(), o.duration)
	fmt.Printf("%-16s %6s %9s %8s %8s %8s %8s %10s %9s %6s\n", "", "conns", "msg/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "CPU s/1000", "peak MiB", "failed")
	for _, f := range strings.Split(o.conns, ",") {
		n, err := strconv.Atoi(f)
		if err != nil {
			return err
		}
		direct := load(sinkAddr, false, msg, n, o)
		print("straight to sink", n, direct, 0, 0)
		warm := o
		warm.duration = time.Second
		load(submission, true, msg, n, warm)
		before := cpu(gateway.Process.Pid)
		if o.profile != "" {
			go saveProfile(admin, o)
		}
		through := load(submission, true, msg, n, o)
		used := cpu(gateway.Process.Pid) - before
		print("through postern", n, through, used.Seconds()*1000/float64(max(1, through.sent)), peakMiB(gateway.Process.Pid))
		fmt.Printf("%-16s %6d %9.3f\n", "ratio", n, through.rate()/direct.rate())
		if through.firstError != "" {
			fmt.Println("first failure:", through.firstError)
		}
	}
	gateway.Process.Signal(syscall.SIGTERM)
	return gateway.Wait()
}

func startGateway(dir string, o options, submission, sinkAddr, ingestAddr, admin string) (*exec.Cmd, error) {
	file := func(name string) string { return filepath.Join(dir, name) }
	text := fmt.Sprintf(`hostname = "bench.example.com"
state_dir = "state"
[log]
level = "error"
[submission]
listen = [%q]
max_connections_per_source = 100000
[certs]
mode = "self-signed"
[relay]
upstream = [%q]
queue = %q
max_connections = 256
[tracking]
url = "https://track.example.com"
[tracking.web]
listen = [%q]
[[dkim.key]]
domain = "example.com"
selector = "s1"
key_file = "dkim.pem"
[signals]
enabled = true
api_key = %q
upload_url = %q
batch_age = "1s"
[admin]
listen = %q
%s
`, submission, sinkAddr, o.queue, freeAddr(), apiKey, "http://"+ingestAddr+"/api/v1/ingest/events", admin, o.extra)
	if err := os.WriteFile(file("postern.toml"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"token", "keygen", file("token.keys")}, {"dkim", "keygen", "--domain", "example.com", "--selector", "s1", "--out", file("dkim.pem")}} {
		if out, err := exec.Command(o.binary, args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
	}
	hash, err := smtpd.HashPassword("bench")
	if err != nil {
		return nil, err
	}
	editor := config.UsersEditor{File: file("users.toml")}
	if _, _, err := editor.SetPassword("bench", hash); err != nil {
		return nil, err
	}
	c := exec.Command(o.binary, "serve", "--config", file("postern.toml"))
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	waitPort(submission)
	return c, nil
}
