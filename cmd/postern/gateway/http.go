package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// serveHTTP serves until ctx ends, then lets requests finish for as long as
// grace says at that time.
func ServeHTTP(ctx context.Context, s *http.Server, l net.Listener, grace func() time.Duration) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		c, cancel := context.WithTimeout(context.Background(), grace())
		defer cancel()
		if s.Shutdown(c) != nil {
			s.Close()
		}
	})

	err := s.Serve(l)
	if !stop() {
		<-stopped
	}

	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
