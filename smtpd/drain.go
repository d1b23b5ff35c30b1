package smtpd

import (
	"context"

	"postern/relay/reply"
	"postern/smtpd/wire"
)

var shuttingDown = reply.Reply{
	Code:     421,
	Enhanced: reply.EnhancedCode{4, 3, 2},
	Text:     "Shutting down, try again later",
}

// drain ends the connections: idle ones and those without a session at once,
// the others politely as long as Grace lasts, and then all that are left.
func (s *Server) drain() {
	s.mu.Lock()
	first := !s.draining
	s.draining = true

	busy := map[*wire.Conn]bool{}
	for ss := range s.sessions {
		busy[ss.conn] = !ss.endWhenIdle()
	}
	var idle []*wire.Conn
	for c := range s.conns {
		if !busy[c] {
			idle = append(idle, c)
		}
	}
	s.mu.Unlock()
	if !first {
		return
	}

	for _, c := range idle {
		go c.Goodbye(shuttingDown)
	}

	ctx, cancel := context.WithTimeout(context.Background(), s.c.Grace)
	defer cancel()
	if err := s.smtp.Shutdown(ctx); err != nil {
		s.c.Log.Warn("sessions cut off at the end of shutdown_grace", "err", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Abort()
	}
}
