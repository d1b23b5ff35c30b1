package smtpd

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// steadyListener goes on after errors of Accept that pass: too many open files,
// a connection that was gone before it was accepted, no memory.
type steadyListener struct {
	net.Listener
	failed   func(error) // told of each
	stop     chan struct{}
	once     sync.Once
	closeErr error
}

func newSteadyListener(l net.Listener, failed func(error)) *steadyListener {
	return &steadyListener{Listener: l, failed: failed, stop: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *steadyListener) Accept() (net.Conn, error) {
	for pause := minAcceptPause; ; pause = min(2*pause, maxAcceptPause) {
		c, err := l.Listener.Accept()
		if err == nil || !passes(err) {
			return c, err
		}
		l.failed(err)

		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-l.stop:
			t.Stop()
			return nil, net.ErrClosed
		}
	}
}

// Close implements net.Listener. It may be called again.
func (l *steadyListener) Close() error {
	l.once.Do(func() {
		close(l.stop)
		l.closeErr = l.Listener.Close()
	})

	return l.closeErr
}

// passingErrors are those of accept(2) that say nothing of the listener.
var passingErrors = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR, syscall.EAGAIN,
	syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPERM, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EOPNOTSUPP,
	syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ETIMEDOUT,
}

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

func (s *Server) acceptFailed(err error) {
	s.metrics.connection("accept_failed")
	s.rare.log(slog.LevelError, "cannot accept connections", "err", err)
}
