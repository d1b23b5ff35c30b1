// Command bench is the load generator: it runs the real gateway against a sink
// in processes of their own, sends it one kind of message over a number of
// connections, and prints messages a second, latencies, CPU and memory, beside
// the same load straight into the sink in the same run.
//
//	go run ./integration/bench                       # html30k, 16 connections, 10 s
//	go run ./integration/bench -kind clicks -conns 16,64
//	go run ./integration/bench -kind text2k -conns 1,16,64
//	go run ./integration/bench -oneshot -delay 50ms  # a connection a message, a slow upstream
//
// Figures of different runs do not compare: look at the ratios.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
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

	"postern/cmd/postern/config"

	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"
	"postern/relay/envelope"
	"postern/relay/upstream"

	"postern/smtpd/auth"
)

const apiKey = "00112233445566778899aabbccddeeff00112233"

type options struct {
	kind     string
	conns    string
	duration time.Duration
	oneshot  bool
	delay    time.Duration
	queue    string
	extra    string
	profile  string
	role     string
	listen   string
	binary   string
	ingest   int
}

func main() {
	var o options
	flag.StringVar(&o.kind, "kind", "html30k", "text2k, html30k, attach1m, attach25m, or clicks on a tracker")
	flag.StringVar(&o.conns, "conns", "16", "numbers of connections, each a run")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "of each run")
	flag.BoolVar(&o.oneshot, "oneshot", false, "a connection for each message")
	flag.DurationVar(&o.delay, "delay", 0, "the sink's pause before it answers the final dot")
	flag.StringVar(&o.queue, "queue", "partial", "relay.queue")
	flag.StringVar(&o.extra, "config", "", "lines to add to the configuration")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of the gateway's last run there")
	flag.StringVar(&o.binary, "binary", "", "a gateway that is built already")
	flag.IntVar(&o.ingest, "ingest-status", 200, "what the ingest API answers to every batch (200 takes it)")
	flag.StringVar(&o.role, "role", "", "internal: sink or ingest")
	flag.StringVar(&o.listen, "listen", "", "internal")
	flag.Parse()
	var err error
	switch o.role {
	case "sink":
		err = runSink(o)
	case "ingest":
		err = http.ListenAndServe(o.listen, ingestServer(o.ingest))
	default:
		if o.kind == "clicks" {
			err = runClicks(o)
			break
		}
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// ingestServer answers every batch with status: a promise is that submission
// does not feel it when that is an error.
func ingestServer(status int) *ingestd.Server {
	s := &ingestd.Server{Key: apiKey, Forget: true}
	if status != http.StatusOK {
		s.Fail = func(int, *http.Request) (int, http.Header, bool) { return status, nil, false }
	}
	return s
}

func runSink(o options) error {
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	c := sink.Config{}
	if o.delay > 0 {
		c.Script = func(phase, _ string) sink.Action {
			if phase == "." {
				return sink.Action{Delay: o.delay}
			}
			return sink.Action{}
		}
	}
	return sink.New(c).Serve(context.Background(), l)
}

// message makes the bytes of a kind.
func message(kind string) ([]byte, error) {
	head := "From: News <news@example.com>\r\nTo: Reader <reader@example.net>\r\nSubject: A newsletter\r\nDate: Tue, 24 Nov 2026 08:00:00 +0000\r\n" +
		"Message-ID: <bench@example.com>\r\nX-Job: bench\r\nMIME-Version: 1.0\r\n"
	var html strings.Builder
	html.WriteString("<!DOCTYPE html>\r\n<html>\r\n<head>\r\n<title>Newsletter</title>\r\n<style>\r\n" + strings.Repeat("  .button { color: #ffffff; padding: 12px 24px; }\r\n", 60) + "</style>\r\n</head>\r\n<body class=\"mail\">\r\n")
	for i := range 20 {
		fmt.Fprintf(&html, "<table width=\"600\" cellpadding=\"0\">\r\n  <tr>\r\n    <td style=\"font-family: Arial, sans-serif\">\r\n%s      <a class=\"button\" href=\"https://www.example.com/articles/%d?utm_source=newsletter&amp;utm_campaign=spring\">Read on</a></td>\r\n  </tr>\r\n</table>\r\n", strings.Repeat("      Words that readers like to read, and a few more of them.\r\n", 16), i)
	}
	html.WriteString("</body>\r\n</html>\r\n")
	text := strings.Repeat("The plain words of the newsletter, on lines of their own.\r\n", 30)
	alternative := "Content-Type: multipart/alternative; boundary=\"alt==\"\r\n\r\n--alt==\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text +
		"--alt==\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html.String() + "--alt==--\r\n"
	switch kind {
	case "text2k":
		return []byte(head + "Content-Type: text/plain\r\n\r\n" + strings.Repeat("The plain words of a receipt, on lines of their own.\r\n", 36)), nil
	case "html30k":
		return []byte(head + alternative), nil
	case "attach1m", "attach25m":
		raw := make([]byte, 768<<10)
		if kind == "attach25m" {
			raw = make([]byte, 18<<20)
		}
		r := rand.NewChaCha8([32]byte{})
		r.Read(raw)
		coded := base64.StdEncoding.EncodeToString(raw)
		var b bytes.Buffer
		b.WriteString(head + "Content-Type: multipart/mixed; boundary=\"mix==\"\r\n\r\n--mix==\r\n" + alternative +
			"--mix==\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
		for len(coded) > 0 {
			n := min(76, len(coded))
			b.WriteString(coded[:n] + "\r\n")
			coded = coded[n:]
		}
		b.WriteString("--mix==--\r\n")
		return b.Bytes(), nil
	}
	return nil, fmt.Errorf("kind %q", kind)
}

// result of one run.
type result struct {
	sent, failed int
	took         time.Duration
	latencies    []time.Duration
	firstError   string
}

func (r *result) rate() float64 { return float64(r.sent) / r.took.Seconds() }

func (r *result) percentile(p float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(len(r.latencies)-1, int(float64(len(r.latencies))*p))]
}

// load sends over n connections for a while.
func load(addr string, login bool, msg []byte, n int, o options) *result {
	c := upstream.Config{Hostname: "load.example", Addrs: []string{addr}, TLS: upstream.TLSOff, MaxConnections: n, MaxMessages: 1 << 30, MaxAge: time.Hour,
		Log: slog.New(slog.DiscardHandler)}
	if login {
		c.TLS, c.Username, c.Password = upstream.TLSOpportunistic, "bench", "bench"
	}
	if o.oneshot {
		c.MaxMessages = 1
	}
	pool := upstream.New(c)
	defer pool.Close()
	var mu sync.Mutex
	res := &result{}
	var serial atomic.Int64
	start := time.Now()
	end := start.Add(o.duration)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			var mine []time.Duration
			failed, first := 0, ""
			for time.Now().Before(end) {
				t := &upstream.Transaction{From: envelope.Address{Local: "bounce", Domain: "example.com"}, Message: [][]byte{msg},
					Recipient: envelope.Recipient{Address: envelope.Address{Local: "reader" + strconv.FormatInt(serial.Add(1), 10), Domain: "example.net"}}}
				at := time.Now()
				out := pool.Send(context.Background(), t)
				if !out.Accepted() {
					if failed++; first == "" {
						first = fmt.Sprint(out.Reply, out.Err)
					}
					continue
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			res.latencies = append(res.latencies, mine...)
			res.failed += failed
			if res.firstError == "" {
				res.firstError = first
			}
		})
	}
	wg.Wait()
	res.took = time.Since(start)
	res.sent = len(res.latencies)
	slices.Sort(res.latencies)
	return res
}

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

func print(what string, n int, r *result, perThousand, peak float64) {
	ms := func(p float64) float64 { return float64(r.percentile(p).Microseconds()) / 1000 }
	fmt.Printf("%-16s %6d %9.1f %8.2f %8.2f %8.2f %8.2f %10.2f %9.0f %6d\n", what, n, r.rate(), ms(.5), ms(.9), ms(.99), ms(1), perThousand, peak, r.failed)
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
	waitPort(submission)
	return c, nil
}

// saveProfile takes a CPU profile while a run lasts.
func saveProfile(admin string, o options) {
	res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, max(1, int(o.duration.Seconds())-1)))
	if err != nil {
		return
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil {
		os.WriteFile(o.profile, b, 0o644)
	}
}

func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer l.Close()
	return l.Addr().String()
}

func waitPort(addr string) {
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ticks is USER_HZ of every Linux that Go runs on.
const ticks = 100

// cpu is the user and system time of a process so far.
func cpu(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / ticks
}

func peakMiB(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.Atoi(strings.Fields(v)[0])
			return float64(n) / 1024
		}
	}
	return 0
}
