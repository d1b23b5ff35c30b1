package smtpd

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// Bounds on the pause after a failed Accept, which doubles with each.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// steadyListener retries Accept after errors that say nothing of the listener: too
// many open files, no memory, a connection that was gone before it was accepted.
type steadyListener struct {
	net.Listener
	failed   func(error) // called with each of these errors
	stop     chan struct{}
	once     sync.Once
	closeErr error
}

func newSteadyListener(l net.Listener, failed func(error)) *steadyListener {
	return &steadyListener{Listener: l, failed: failed, stop: make(chan struct{})}
}

// Accept implements net.Listener. Its errors are final.
func (l *steadyListener) Accept() (net.Conn, error) {
	for pause := minAcceptPause; ; pause = min(2*pause, maxAcceptPause) {
		c, err := l.Listener.Accept()
		if err == nil || !passes(err) {
			return c, err
		}
		l.failed(err)

		if !l.pause(pause) {
			return nil, net.ErrClosed
		}
	}
}

// pause waits for d, and reports whether the listener is still open.
func (l *steadyListener) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()

	select {
	case <-t.C:
		return true
	case <-l.stop:
		return false
	}
}

// Close implements net.Listener. Further calls return the same error.
func (l *steadyListener) Close() error {
	l.once.Do(func() {
		close(l.stop)
		l.closeErr = l.Listener.Close()
	})

	return l.closeErr
}

// passingErrors are the errors of accept(2) after which it may be called again.
var passingErrors = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR, syscall.EAGAIN,
	syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPERM, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EOPNOTSUPP,
	syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ETIMEDOUT,
}

// passes reports whether Accept may be called again after an error.
func passes(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	var t interface{ Temporary() bool }
	if errors.As(err, &t) && t.Temporary() {
		return true
	}
	for _, e := range passingErrors {
		if errors.Is(err, e) {
			return true
		}
	}

	return false
}

// acceptFailed counts and logs an error of Accept.
func (s *Server) acceptFailed(err error) {
	s.metrics.connection("accept_failed")
	s.rare.log(slog.LevelError, "cannot accept connections", "err", err)
}
