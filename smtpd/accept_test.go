package smtpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// faultyListener fails before it accepts.
type faultyListener struct {
	net.Listener
	mu     sync.Mutex
	errors []error
}

func (l *faultyListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	if len(l.errors) > 0 {
		err := l.errors[0]
		l.errors = l.errors[1:]
		l.mu.Unlock()
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	l.mu.Unlock()

	return l.Listener.Accept()
}

// TestAcceptGoesOn checks that Accept is retried after temporary errors.
func TestAcceptGoesOn(t *testing.T) {
	t.Parallel()
	passing := []error{syscall.EMFILE, syscall.ECONNABORTED}
	for _, c := range []struct {
		name   string
		change func(*setup)
		hello  string
	}{
		{"plain", func(*setup) {}, ""},
		{"behind a proxy", options["proxy"], "PROXY TCP4 192.0.2.7 192.0.2.1 1234 587\r\n"},
		{"port 25", options["reports"], ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			out := &lockedBuffer{}
			config := setup{
				Config: Config{
					Hostname: "x.example",
					Log:      slog.New(slog.NewTextHandler(out, nil)),
					Metrics:  reg,
				},
				Submission: Submission{
					Submit: &submitter{},
				},
			}
			c.change(&config)
			raw, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- newTestServer(config).Serve(ctx, &faultyListener{Listener: raw, errors: passing}) }()

			for range 3 {
				conn, err := net.Dial("tcp", raw.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				p := &player{t: t, at: c.name}
				p.use(conn)
				p.send(c.hello)
				p.expect("220 x.example")
				conn.Close()
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := counterValue(t, reg, "postern_smtpd_connections_total", "accept_failed"); got != float64(len(passing)) {
				t.Errorf("%v failures counted, want %d", got, len(passing))
			}
			if n := strings.Count(out.String(), "cannot accept connections"); n != 1 {
				t.Errorf("%d lines in the log, want 1 a minute:\n%s", n, out)
			}
		})
	}
}

// TestAcceptEnds checks that other errors end the server.
func TestAcceptEnds(t *testing.T) {
	t.Parallel()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	s := newTestServer(setup{Config: Config{Log: quiet}, Submission: Submission{Submit: &submitter{}}})
	got := s.Serve(context.Background(), &faultyListener{Listener: raw, errors: []error{syscall.EINVAL}})
	if !errors.Is(got, syscall.EINVAL) {
		t.Errorf("got %v, want %v", got, syscall.EINVAL)
	}
}

// TestSteadyListenerStops checks that Close ends a pause.
func TestSteadyListenerStops(t *testing.T) {
	t.Parallel()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var many []error
	for range 1000 {
		many = append(many, syscall.EMFILE)
	}
	failed := make(chan struct{}, len(many))
	l := newSteadyListener(&faultyListener{Listener: raw, errors: many}, func(error) { failed <- struct{}{} })
	done := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	<-failed
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
}

// temporary is an error that says whether it passes.
type temporary bool

func (e temporary) Error() string { return "temporary" }

func (e temporary) Temporary() bool { return bool(e) }

// closedTemporarily is a closed listener's error, whatever else it says.
type closedTemporarily struct{ temporary }

func (closedTemporarily) Temporary() bool { return true }

func (closedTemporarily) Is(target error) bool { return target == net.ErrClosed }

// unixAddr is an address of no TCP.
var unixAddr = net.UnixAddr{Name: "x"}

// TestAcceptPauses longer each time, up to a second, and shortly again after a
// success.
func TestAcceptPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		raw := &pipeListener{conns: make(chan net.Conn, 2), done: make(chan struct{})}
		faulty := &faultyListener{Listener: raw}
		var at []time.Duration
		begun := time.Now()
		l := newSteadyListener(faulty, func(error) { at = append(at, time.Since(begun)) })
		for range 2 {
			for range 10 {
				faulty.errors = append(faulty.errors, syscall.EMFILE)
			}
			_, sock := net.Pipe()
			defer sock.Close()
			raw.conns <- sock
			begun, at = time.Now(), nil
			if c, err := l.Accept(); c != sock || err != nil {
				t.Fatalf("got %v, %v; want the connection", c, err)
			}

			at = append(at, time.Since(begun))
			want := time.Duration(0)
			for i, got := range at {
				if got != want {
					t.Errorf("attempt %d was at %s, want %s", i+1, got, want)
				}
				want += min(time.Second, 5*time.Millisecond<<i)
			}
			if len(at) != 11 {
				t.Errorf("%d attempts, want 11", len(at))
			}
		}
	})
}

// failingListener cannot be closed twice, nor well.
type failingListener struct {
	net.Listener
	closed int
}

func (l *failingListener) Close() error {
	l.closed++
	return errors.New("cannot close")
}

// TestSteadyListenerCloses checks that Close returns the same error each time.
func TestSteadyListenerCloses(t *testing.T) {
	t.Parallel()
	inner := &failingListener{}
	l := newSteadyListener(inner, func(error) {})
	for range 2 {
		if err := l.Close(); err == nil || err.Error() != "cannot close" {
			t.Errorf("got %v, want what the listener says", err)
		}
	}
	if inner.closed != 1 {
		t.Errorf("closed %d times, want once", inner.closed)
	}
}

// TestPassingErrors checks which errors of accept(2) are retried.
func TestPassingErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR, syscall.EAGAIN,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPERM, syscall.EPROTO, syscall.ENOPROTOOPT,
		syscall.EOPNOTSUPP, syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
		syscall.ETIMEDOUT,
	} {
		if !passes(fmt.Errorf("accept: %w", err)) {
			t.Errorf("%v ends the listener", err)
		}
	}
	for _, err := range []error{
		syscall.EINVAL, syscall.EBADF, errors.New("other"), closedTemporarily{}, temporary(false),
	} {
		if passes(err) {
			t.Errorf("%v does not end the listener", err)
		}
	}
	if !passes(temporary(true)) {
		t.Error("a temporary error ends the listener")
	}
}
