package smtpd

import (
	"context"

	"postern/smtpd/wire"
)

// drain ends the connections: idle ones and those without a session at once,
// the others after their transaction, and at the end of the grace period all
// that are left.
func (s *Server) drain() {
	idle, first := s.beginDraining()
	if !first {
		return
	}

	for _, c := range idle {
		go c.Goodbye(shuttingDown)
	}

	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeouts.Grace)
	defer cancel()
	if err := s.smtp.Shutdown(ctx); err != nil {
		s.cfg.Log.Warn("sessions cut off at the end of shutdown_grace", "err", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Abort()
	}
}

// beginDraining admits nobody any more, and returns the connections that are
// not in a transaction. first is false where draining has begun before.
func (s *Server) beginDraining() (idle []*wire.Conn, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first = !s.draining
	s.draining = true

	busy := map[*wire.Conn]bool{}
	for ss := range s.sessions {
		busy[ss.conn] = !ss.endWhenIdle()
	}
	for c := range s.conns {
		if !busy[c] {
			idle = append(idle, c)
		}
	}

	return idle, first
}
