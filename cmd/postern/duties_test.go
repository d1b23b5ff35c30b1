package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/cmd/postern/gateway"
	"postern/cmd/postern/systemd"
	"postern/relay"
	"postern/relay/envelope"
	"postern/relay/queue"
)

// TestStandardInputBringsRecords with [accounting] pipe = true; its end while
// the gateway runs is worth a line.
func TestStandardInputBringsRecords(t *testing.T) {
	g, log := startGateway(t, writeConfig(t, "", ""))
	log.take()
	const ended = "level=WARN msg=\"accounting.pipe: standard input has ended, no more records come that way\""

	if err := g.ServePipe(t.Context(), strings.NewReader(pipedRecords)); err != nil {
		t.Fatal(err)
	}
	if got := left(t, gateway.PipeDir(g.C.Config)); got != pipedRecords {
		t.Errorf("got %q, want the records", got)
	}
	if text := log.take(); strings.Count(text, ended) != 1 {
		t.Errorf("got\n%s\nwant %s", text, ended)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w := io.Pipe()
	defer w.Close()
	if err := g.ServePipe(ctx, r); err != nil {
		t.Errorf("at the end: got %v, want nil", err)
	}
	r.Close()
	if text := log.take(); strings.Contains(text, ended) {
		t.Errorf("at the end: got\n%s\nwant no word of it", text)
	}
}

// TestPipeFolderIsTheGroups, unless it is there already.
func TestPipeFolderIsTheGroups(t *testing.T) {
	group := fmt.Sprint(os.Getgid())
	for _, c := range []struct {
		name, group string
		there       bool
		want        os.FileMode
	}{
		{"no group", "", false, os.ModeDir | 0o700},
		{"a group", group, false, os.ModeDir | os.ModeSetgid | 0o770},
		{"there already", group, true, os.ModeDir | 0o750},
	} {
		dir := filepath.Join(t.TempDir(), "a", "b")
		if c.there {
			if err := os.MkdirAll(dir, 0o750); err != nil {
				t.Fatal(err)
			}
		}
		if err := gateway.PreparePipeDir(dir, c.group); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode() != c.want {
			t.Errorf("%s: got %v, %v, want mode %v", c.name, info, err, c.want)
		}
	}
	if err := gateway.PreparePipeDir("", group); err != nil {
		t.Errorf("no folder: got %v, want nil", err)
	}
}

func TestWatchdogHearsTwiceInItsTime(t *testing.T) {
	name, read := manager(t)
	n := &systemd.Notifier{Socket: name, Watchdog: 2 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.ServeWatchdog(ctx, func() error { return nil }, slog.New(slog.DiscardHandler))
	}()
	for range 2 {
		if got := read(); got != "WATCHDOG=1" {
			t.Errorf("got %q, want WATCHDOG=1", got)
		}
	}
	cancel()
	<-done
}

// TestWithoutAServiceManagerNothingIsSent.
func TestWithoutAServiceManagerNothingIsSent(t *testing.T) {
	var none *systemd.Notifier
	none.Send("READY=1") // would panic
	(&systemd.Notifier{}).Send("READY=1")
	(&systemd.Notifier{Socket: filepath.Join(t.TempDir(), "nowhere")}).Send("READY=1")

	// Where no watchdog is set, what is stuck is logged all the same.
	var log bytes.Buffer
	n := &systemd.Notifier{}
	if !n.Beat(errors.New("stuck"), false, slog.New(slog.NewTextHandler(&log, nil))) || !strings.Contains(log.String(), "stuck") {
		t.Errorf("got %q, want what is stuck", log.String())
	}
	name, read := manager(t)
	n.Socket = name
	n.Beat(nil, false, slog.New(slog.DiscardHandler))
	n.Send("MARK=1")
	if got := read(); got != "MARK=1" {
		t.Errorf("got %q, want no sign of life without a watchdog", got)
	}
}

func TestOwnersMemoryLimitComesFirst(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)

	t.Setenv("GOMEMLIMIT", "1GiB")
	gateway.BoundHeap(100)
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("with GOMEMLIMIT: got %d, want %d as before", got, before)
	}
	t.Setenv("GOMEMLIMIT", "")
	gateway.BoundHeap(0)
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("without a budget: got %d, want %d as before", got, before)
	}
	gateway.BoundHeap(1)
	if got, want := debug.SetMemoryLimit(-1), int64(1+256<<20); got != want {
		t.Errorf("got %d, want %d, the budget and 256 MiB", got, want)
	}
}

// TestAUsersFileThatChangesWhileItIsReadIsReadAgain.
func TestAUsersFileThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	a := config.StampFile(writeFile(t, dir, "a", "x"))
	b := config.StampFile(writeFile(t, dir, "b", "xx"))
	w := &gateway.UsersWatch{}
	look := func() bool { return w.Look("users.toml", a, b) }
	if look() || !look() {
		t.Fatal("want it read at the second look")
	}
	if look() {
		t.Error("read again though nothing changed")
	}
	w.Again()
	if look() || !look() {
		t.Error("want it read once more, when it has stood still")
	}
}

func TestUsersThatCannotBeTakenAreNot(t *testing.T) {
	file := writeConfig(t, "", "")
	g, _ := startGateway(t, file)
	l := g.Live.Load().C
	n, err := g.TakeUsers(l)
	if err != nil || n == nil || n == l || g.Live.Load().C != n {
		t.Fatalf("got %v, %v, want the users read anew and in use", n, err)
	}
	if n, err := g.TakeUsers(l); n != nil || err != nil {
		t.Errorf("of a configuration that is not in use: got %v, %v, want nothing", n, err)
	}

	tracker := &gateway.Gateway{}
	tracker.LookAtUsers(&gateway.UsersWatch{}) // has no users, and would panic
}

func TestQueueIsMeasured(t *testing.T) {
	dir := t.TempDir()
	q, err := queue.Open(queue.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	admin.RegisterQueueAge(reg, q)
	if got := values(t, reg); got["postern_queue_oldest_seconds"] != 0 || got["postern_queue_waiting_bytes"] != 0 || len(got) != 2 {
		t.Errorf("empty: got %v, want 0", got)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}

	waitingCopies(t, dir)
	q, err = queue.Open(queue.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	reg = prometheus.NewRegistry()
	admin.RegisterQueueAge(reg, q)
	got := values(t, reg)
	if age := got["postern_queue_oldest_seconds"]; age < 90 || age > 90+patience.Seconds() {
		t.Errorf("got an age of %v, want 90 seconds", age)
	}
	if size := got["postern_queue_waiting_bytes"]; size < float64(2*len("Subject: one\r\n\r\nbody\r\n")) {
		t.Errorf("got %v bytes, want those of two messages", size)
	}
}

// TestTotalsAddHistogramsAndCounters of both sides, whichever is there.
func TestTotalsAddHistogramsAndCounters(t *testing.T) {
	count := func(v float64) *dto.Metric { return &dto.Metric{Counter: &dto.Counter{Value: admin.Pointer(v)}} }
	now := count(3)
	admin.AddTo(now, count(4))
	if got := now.Counter.GetValue(); got != 7 {
		t.Errorf("counters: got %v, want 7", got)
	}
	admin.AddTo(now, &dto.Metric{})
	admin.AddTo(&dto.Metric{}, count(1))
	if got := now.Counter.GetValue(); got != 7 {
		t.Errorf("nothing added: got %v, want 7", got)
	}

	histogram := func(n uint64, sum float64, buckets ...uint64) *dto.Metric {
		h := &dto.Histogram{SampleCount: admin.Pointer(n), SampleSum: admin.Pointer(sum)}
		for _, b := range buckets {
			h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: admin.Pointer(b)})
		}
		return &dto.Metric{Histogram: h}
	}
	h := histogram(3, 1.5, 1, 3)
	admin.AddTo(h, histogram(4, 2.5, 2))
	if got := h.Histogram; got.GetSampleCount() != 7 || got.GetSampleSum() != 4 || got.Bucket[0].GetCumulativeCount() != 3 || got.Bucket[1].GetCumulativeCount() != 3 {
		t.Errorf("histograms: got %v", got)
	}
	admin.AddTo(h, &dto.Metric{})
	if got := h.Histogram.GetSampleCount(); got != 7 {
		t.Errorf("nothing added: got %v, want 7", got)
	}

	var m dto.Metric
	full := &dto.Metric{Label: []*dto.LabelPair{{}}, Counter: &dto.Counter{}, Gauge: &dto.Gauge{}, Histogram: &dto.Histogram{}, Summary: &dto.Summary{}, Untyped: &dto.Untyped{}}
	if err := (admin.Total{Value: full}).Write(&m); err != nil || m.Counter == nil || m.Gauge == nil || m.Histogram == nil || m.Summary == nil || m.Untyped == nil || len(m.Label) != 1 {
		t.Errorf("got %v, %v, want every part of it", &m, err)
	}
}

func TestCollectedTakesMetrics(t *testing.T) {
	c := &admin.Collected{}
	a, b := prometheus.NewCounter(prometheus.CounterOpts{Name: "a"}), prometheus.NewCounter(prometheus.CounterOpts{Name: "b"})
	if err := c.Register(a); err != nil {
		t.Fatal(err)
	}
	c.MustRegister(b)
	if c.Unregister(a) || !slices.Equal(c.List, []prometheus.Collector{a, b}) {
		t.Errorf("got %v, want both, in order", c.List)
	}
}

// TestTheRelayOfTheConfigurationInUseAnswers for the listeners and the queue.
func TestTheRelayOfTheConfigurationInUseAnswers(t *testing.T) {
	g, _ := startGateway(t, writeConfig(t, "", ""))
	tr := &queue.Transaction{
		ID:      "x",
		Created: time.Now(),
		From:    envelope.Address{Local: "s", Domain: "example.com"},
		Copies: []queue.Copy{{
			MessageID: g.Live.Load().Keys.NewID(time.Now()).String(),
			From:      envelope.Address{Local: "s", Domain: "example.com"},
			Recipient: envelope.Recipient{Address: envelope.Address{Local: "a", Domain: "example.net"}},
			Own:       [][]byte{nil, nil},
		}},
		Shared: [][]byte{[]byte("Subject: x\r\n\r\nbody\r\n")},
	}
	if v := g.Deliver(t.Context(), tr, 0, 1); !v.Away || v.Done || v.Failed {
		t.Errorf("deliver: got %+v, want that the upstream is away", v)
	}
	if about := g.GiveUp(t.Context(), tr, 0, 3, queue.Verdict{Failed: true, Reply: "550 5.1.1 no"}); len(about) != 1 {
		t.Errorf("give up: got %d messages about it, want one to the sender", len(about))
	}
	if r := g.Submit(t.Context(), &relay.Submission{}); r.Code < 400 {
		t.Errorf("an empty submission: got %+v, want it refused", r)
	}
	if got := values(t, g.Reg)["postern_submission_duration_seconds"]; got != 1 {
		t.Errorf("got %v durations, want 1", got)
	}
	if err := g.Reachable(t.Context()); err == nil {
		t.Error("reachable: got no error, want that the upstream is away")
	}
}

func TestInheritedSocketsOfAnotherProcessAreNotTaken(t *testing.T) {
	for name, env := range map[string][2]string{
		"another process": {"1", "1"},
		"no number":       {fmt.Sprint(os.Getpid()), "x"},
		"nothing":         {"", ""},
		"none":            {fmt.Sprint(os.Getpid()), "0"},
	} {
		t.Setenv("LISTEN_PID", env[0])
		t.Setenv("LISTEN_FDS", env[1])
		t.Setenv("LISTEN_FDNAMES", "x")
		in := systemd.InheritListeners()
		if len(in.Sockets) != 0 || in.Resolve == nil {
			t.Errorf("%s: got %v, want none", name, in.Sockets)
		}
		for _, key := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			if _, ok := os.LookupEnv(key); ok {
				t.Errorf("%s: %s is still set, for programs that this one starts", name, key)
			}
		}
	}
	if ips, err := systemd.Lookup(t.Context(), "127.0.0.1"); err != nil || len(ips) != 1 {
		t.Errorf("got %v, %v, want the address", ips, err)
	}
}

func TestAddressesThatInheritedSocketsCannotServe(t *testing.T) {
	in := inherit(t, "127.0.0.1:25")
	for _, addr := range []string{"127.0.0.1", "127.0.0.1:smtp", "127.0.0.1:65536"} {
		if taken, served, err := in.Take("a", addr); err == nil || served || len(taken) != 0 {
			t.Errorf("%s: got %v, %v, %v, want an error", addr, taken, served, err)
		}
	}
	if in.TakesIPv4("25") {
		t.Error("got that port 25 is taken, want not before a key has it")
	}
	if _, _, err := in.Take("a", "127.0.0.1:25"); err != nil {
		t.Fatal(err)
	}
	if !in.TakesIPv4("25") || in.TakesIPv4("26") {
		t.Error("want port 25 taken, and 26 not")
	}
	six := inherit(t, "[::1]:25")
	if _, _, err := six.Take("a", "[::1]:25"); err != nil || six.TakesIPv4("25") {
		t.Errorf("got %v, want an IPv6 socket not to be an IPv4 one", err)
	}
	b := gateway.Binding{Addr: "[::]:25"}
	if got := b.Network([]gateway.Binding{b}, in); got != "tcp6" {
		t.Errorf("beside an inherited IPv4 socket: got %s, want tcp6", got)
	}
}

func TestV6OnlyIsReadOfTheSocket(t *testing.T) {
	for network, want := range map[string]bool{"tcp6": true, "tcp": false, "tcp4": false} {
		addr := "[::]:0"
		if network == "tcp4" {
			addr = "0.0.0.0:0"
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Skip("no IPv6 here:", err)
		}
		in := &systemd.Inherited{}
		in.Add(l)
		if got := in.Sockets[0].V6only; got != want {
			t.Errorf("%s: got %v, want %v", network, got, want)
		}
		if got := in.Sockets[0].At.Port(); int(got) != l.Addr().(*net.TCPAddr).Port {
			t.Errorf("%s: got port %d", network, got)
		}
		if got := in.CloseRest(); len(got) != 1 {
			t.Errorf("%s: got %v closed, want it", network, got)
		}
		if _, err := l.Accept(); err == nil {
			t.Errorf("%s: still open", network)
		}
	}
	if systemd.IsV6Only(fakeSocket{}) {
		t.Error("a fake socket is IPv6 alone")
	}
}

// TestProblemsAreWrittenOneALine, and other errors behind the program's name.
func TestProblemsAreWrittenOneALine(t *testing.T) {
	var b strings.Builder
	e := &env{stderr: &b}
	e.report(fmt.Errorf("x: %w", config.Problems{{File: "f", Line: 1, Reason: "a"}, {File: "f", Line: 2, Reason: "b"}}))
	e.report(errors.New("c"))
	if got, want := b.String(), "f:1: a\nf:2: b\npostern: c\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestServeRefusesABadConfiguration(t *testing.T) {
	file := writeConfig(t, "", "[log]\nlevel = \"loud\"\nformat = \"xml\"\n[dkim]\nexpire = \"1d\"\n")
	code, stdout, stderr := execute(t, "", "serve", "--config", file)
	for _, want := range []string{"log.level: want one of", "log.format: want one of", "dkim.expire: warning: ", "postern: 2 problems in the configuration\n"} {
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("got %d %q %q, want %q", code, stdout, stderr, want)
		}
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file = writeConfig(t, "", "")
	replaceIn(t, file, "[submission]\nlisten = [\"127.0.0.1:0\"]", fmt.Sprintf("[submission]\nlisten = [%q]", taken.Addr()))
	code, _, stderr = execute(t, "", "serve", "--config", file)
	if code != exitFailed || !strings.Contains(stderr, "postern: submission.listen: ") || !strings.Contains(stderr, syscall.EADDRINUSE.Error()) {
		t.Errorf("got %d %q, want the address that is taken", code, stderr)
	}
}

// TestServeInThisProcess runs the command itself, in JSON, and ends it.
func TestServeInThisProcess(t *testing.T) {
	was := slog.Default()
	defer slog.SetDefault(was)
	limit := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(limit)
	file := writeConfig(t, "", "[log]\nformat = \"json\"\n[dkim]\nexpire = \"1d\"\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := &buffer{}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--config", file}, strings.NewReader(""), io.Discard, stderr)
	}()
	text := ""
	eventually(t, "the gateway to be up", func() bool {
		text += stderr.take()
		return strings.Contains(text, `"msg":"postern is up"`)
	})
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("got %d, want 0", code)
	}
	if text += stderr.take(); !strings.Contains(text, "dkim.expire: warning: ") || !strings.HasSuffix(text, "\"msg\":\"stopped\"}\n") {
		t.Errorf("got\n%s\nwant the warning, and stopped as the last line", text)
	}
	if got := debug.SetMemoryLimit(-1); os.Getenv("GOMEMLIMIT") == "" && got != 1<<30+256<<20 {
		t.Errorf("got a limit of %d bytes for the heap, want memory_budget and 256 MiB", got)
	}
}
