package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/cmd/postern/config"
	"postern/smtpd/auth"
	"postern/tracking/token"
)

// asMain makes the test binary be postern.
const asMain = "POSTERN_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}

	goleak.VerifyTestMain(m)
}

// patience is more than anything here takes.
const patience = time.Minute

// execute runs a command line in this process.
func execute(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// writeFile writes a file of a test's folder and returns its path.
func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// testHash is the hash of "secret".
var testHash = func() string {
	h, err := auth.HashPassword("secret")
	if err != nil {
		panic(err)
	}
	return h
}()

// writeConfig makes a folder with everything that a gateway needs, which
// listens on ports that the system chooses, and returns the configuration
// file. extra goes to its top level, more at its end.
func writeConfig(t *testing.T, extra, more string) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := token.AddKey(filepath.Join(dir, "token.keys"), time.Now()); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "users.toml", fmt.Sprintf("[[user]]\nname = \"app\"\npassword = %q\n", testHash))
	if !strings.Contains(more, "[admin]") {
		more += "[admin]\nlisten = \"127.0.0.1:0\"\n"
	}

	return writeFile(t, dir, "postern.toml", fmt.Sprintf(`hostname = "postern.localhost"
state_dir = %q
shutdown_grace = "2s"
%s

[submission]
listen = ["127.0.0.1:0"]

[certs]
mode = "self-signed"

[relay]
upstream = ["127.0.0.1:1"]

[tracking]
url = "http://localhost"

[tracking.web]
listen = ["127.0.0.1:0"]
%s
`, filepath.Join(dir, "state"), extra, more))
}

func loadConfig(t *testing.T, file string) *config.Loaded {
	t.Helper()
	l, problems := config.Load(file, config.All)
	if fatal := problems.Fatal(); len(fatal) > 0 {
		t.Fatal(fatal)
	}
	return l
}

func TestRunExitStatus(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.toml")
	for _, c := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string // parts
	}{
		{"no argument", nil, 0, "Usage: postern", ""},
		{"help", []string{"--help"}, 0, "Usage: postern", ""},
		{"help of a command", []string{"queue", "list", "--help"}, 0, "Usage: postern queue list", ""},
		{"help with what is missing", []string{"serve", "--help"}, 0, "Usage: postern serve", ""},
		{"it works", []string{"jobid", "Spring sale"}, 0, "Spring_sale\n", ""},
		{"version", []string{"version"}, 0, "postern devel\ncommit ", ""},
		{"--version", []string{"--version"}, 0, "postern devel\ncommit ", ""},
		{"unknown command", []string{"sevre"}, exitUsage, "", "postern: unexpected argument sevre"},
		{"help after an unknown command", []string{"sevre"}, exitUsage, "", "\nUsage: postern <command> [flags]\nTry: postern --help\n"},
		{"unknown flag", []string{"version", "--loud"}, exitUsage, "", "postern: unknown flag --loud\nUsage: postern version [flags]\n"},
		{"wrong value", []string{"serve", "--role=cook"}, exitUsage, "", "postern: --role must be one of"},
		{"help after a wrong value", []string{"serve", "--role=cook"}, exitUsage, "", "\nTry: postern serve --help\n"},
		{"missing sub-command", []string{"queue"}, exitUsage, "", "\nUsage: postern queue <command> [flags]\nTry: postern queue --help\n"},
		{"missing argument", []string{"queue", "drop"}, exitUsage, "", "\nUsage: postern queue drop <id> [flags]\nTry: postern queue drop --help\n"},
		{"neither a user nor a flag", []string{"passwd"}, exitUsage, "", "postern: name a user, or --list\nUsage: postern passwd "},
		{"no kind of accounting", []string{"accounting"}, exitUsage, "", "\nTry: postern accounting --help\n"},
		{"unknown type", []string{"events", "tail", "--type=x", "--config", writeConfig(t, "", "")}, exitUsage, "", "\nTry: postern events tail --help\n"},
		{"it does not work", []string{"check", "--config", missing}, exitFailed, "", "postern: 1 error in the configuration"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := execute(t, "", c.args...)

			if code != c.code {
				t.Errorf("got status %d, want %d", code, c.code)
			}
			if !strings.Contains(stdout, c.stdout) {
				t.Errorf("got stdout %q, want it to hold %q", stdout, c.stdout)
			}
			if !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
				t.Errorf("got stderr %q, want it to hold %q", stderr, c.stderr)
			}
		})
	}
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("a fault in a command") }

func TestRunLetsPanicThrough(t *testing.T) {
	file := writeConfig(t, "", "")
	defer func() {
		if got := recover(); got != "a fault in a command" {
			t.Errorf("got panic %v, want the command's own", got)
		}
	}()

	code := run(t.Context(), []string{"passwd", "--config", file, "new"}, panicReader{}, io.Discard, io.Discard)
	t.Errorf("got status %d and no panic", code)
}

// process is a `serve` that runs as a process of its own.
type process struct {
	cmd    *exec.Cmd
	admin  string // the address of its admin listener
	config string
	state  string // its state_dir
	args   []string
}

// unusedAddr is an address that nobody listens on.
func unusedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startProcess starts `serve` with its standard error on w, and waits until
// its health check answers.
func startProcess(t *testing.T, w *os.File, args ...string) *process {
	t.Helper()
	p := &process{admin: unusedAddr(t), args: args}
	p.config = writeConfig(t, "", fmt.Sprintf("[admin]\nlisten = %q\n", p.admin))
	p.state = filepath.Join(filepath.Dir(p.config), "state")

	p.start(t, w)
	return p
}

// start is startProcess for one that has ended.
func (p *process) start(t *testing.T, w *os.File) {
	t.Helper()
	p.cmd = exec.Command(os.Args[0], append([]string{"serve", "--config", p.config}, p.args...)...)
	p.cmd.Env = append(os.Environ(), asMain+"=1")
	if w != nil {
		p.cmd.Stderr = w
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	process := p.cmd.Process
	t.Cleanup(func() { _ = process.Kill() })

	p.waitFor(t, "the health check", func() bool {
		body, err := p.get("/healthz")
		return err == nil && body == "ok\n"
	})
}

func (p *process) get(path string) (string, error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + p.admin + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()

	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status)
	}
	return string(body), err
}

// waitFor waits until ok returns true.
func (p *process) waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()

	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// stop sends SIGTERM and returns how the process ended.
func (p *process) stop(t *testing.T) error {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-ended
		t.Fatalf("still there %v after SIGTERM", patience)
		return nil
	}
}

// fullPipe is a pipe that nobody reads and that takes nothing more.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })

	fd := int(w.Fd()) // which makes it a blocking one
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for size := 4096; size > 0; size /= 2 {
		for err == nil {
			_, err = syscall.Write(fd, make([]byte, size))
		}
		if !errors.Is(err, syscall.EAGAIN) {
			t.Fatal(err)
		}
		err = nil
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestServeGoesOnWhileNobodyReadsItsLog(t *testing.T) {
	t.Parallel()
	p := startProcess(t, fullPipe(t)) // its first line would hang

	if err := p.stop(t); err != nil {
		t.Errorf("got %v, want status 0 after SIGTERM", err)
	}
}

func TestServeSurvivesTheReaderOfItsLog(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	p := startProcess(t, w)
	w.Close()

	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil { // a reload logs
		t.Fatal(err)
	}
	p.waitFor(t, "a log line that cannot be written", func() bool {
		body, err := p.get("/metrics")
		return err == nil && strings.Contains(body, "\npostern_log_write_errors_total ") &&
			!strings.Contains(body, "\npostern_log_write_errors_total 0\n")
	})

	if err := p.stop(t); err != nil {
		t.Errorf("got %v, want status 0 after SIGTERM", err)
	}
}

func TestServeWritesItsLastLines(t *testing.T) {
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := startProcess(t, log)
	if err := p.stop(t); err != nil {
		t.Errorf("got %v, want status 0 after SIGTERM", err)
	}

	text, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(text), "msg=stopped\n") {
		t.Errorf("got\n%s\nwant \"stopped\" as the last line", text)
	}
}
