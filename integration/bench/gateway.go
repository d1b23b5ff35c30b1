package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"postern/cmd/postern/config"
	"postern/smtpd/auth"
)

// addresses are those of the processes of a benchmark.
type addresses struct {
	sink       string
	ingest     string
	submission string
	web        string
	admin      string
}

// run measures the gateway, and the sink alone.
func run(o options) error {
	msg, err := message(o.kind)
	if err != nil {
		return err
	}
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

	at := addresses{
		sink:       freeAddr(),
		ingest:     freeAddr(),
		submission: freeAddr(),
		web:        freeAddr(),
		admin:      freeAddr(),
	}
	sinkProcess, err := startRole("sink", at.sink, o)
	if err != nil {
		return err
	}
	defer sinkProcess.Process.Kill()

	ingestProcess, err := startRole("ingest", at.ingest, o)
	if err != nil {
		return err
	}
	defer ingestProcess.Process.Kill()

	gateway, err := startGateway(dir, o, at)
	if err != nil {
		return err
	}
	defer gateway.Process.Kill()

	fmt.Printf("%s, %d bytes, sink pause %s, one-shot %v, queue %s, %d cores, %s a run\n",
		o.kind, len(msg), o.delay, o.oneshot, o.queue, runtime.NumCPU(), o.duration)
	printHeader("msg/s")
	for _, n := range conns {
		compare(n, msg, gateway.Process.Pid, at, o)
	}

	gateway.Process.Signal(syscall.SIGTERM)

	return gateway.Wait()
}

// compare measures the sink alone and then the gateway, over n connections.
func compare(n int, msg []byte, pid int, at addresses, o options) {
	direct := load(target{addr: at.sink}, msg, n, o)
	printResult("straight to sink", n, direct, 0, 0)

	gateway := target{addr: at.submission, login: true}
	warm := o
	warm.duration = time.Second
	load(gateway, msg, n, warm)

	before := cpu(pid)
	if o.profile != "" {
		go saveProfile(at.admin, o)
	}
	through := load(gateway, msg, n, o)
	used := cpu(pid) - before

	printResult("through postern", n, through, through.perThousand(used), peakMiB(pid))
	fmt.Printf("%-16s %6d %9.3f\n", "ratio", n, through.rate()/direct.rate())
	if through.firstError != "" {
		fmt.Println("first failure:", through.firstError)
	}
}

// startRole starts this program in another role.
func startRole(role, addr string, o options) (*exec.Cmd, error) {
	c := exec.Command(os.Args[0],
		"-role", role,
		"-listen", addr,
		"-delay", o.delay.String(),
		"-ingest-status", strconv.Itoa(o.ingest),
	)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	waitPort(addr)

	return c, nil
}

// build builds the gateway in dir, unless the options name one.
func (o *options) build(dir string) error {
	if o.binary != "" {
		return nil
	}

	o.binary = filepath.Join(dir, "postern")
	out, err := exec.Command("go", "build", "-o", o.binary, "postern/cmd/postern").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}

	return nil
}

// gatewayConfig is the configuration of the gateway.
const gatewayConfig = `hostname = "bench.example.com"
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
`

// startGateway writes the files of a gateway to dir and starts it.
func startGateway(dir string, o options, at addresses) (*exec.Cmd, error) {
	file := func(name string) string { return filepath.Join(dir, name) }
	text := fmt.Sprintf(gatewayConfig, at.submission, at.sink, o.queue, at.web, apiKey,
		"http://"+at.ingest+"/api/v1/ingest/events", at.admin, o.extra)
	if err := os.WriteFile(file("postern.toml"), []byte(text), 0o600); err != nil {
		return nil, err
	}

	for _, args := range [][]string{
		{"token", "keygen", file("token.keys")},
		{"dkim", "keygen", "--domain", "example.com", "--selector", "s1", "--out", file("dkim.pem")},
	} {
		if out, err := exec.Command(o.binary, args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
	}

	hash, err := auth.HashPassword("bench")
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
	waitPort(at.submission)

	return c, nil
}
