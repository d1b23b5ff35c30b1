package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"postern/cmd/postern/config"
	"postern/tracking/web"
)

// listen opens every listener, or none.
func (g *gateway) listen() error {
	given := inheritListeners()
	open := func(key string, addrs ...config.Addr) ([]net.Listener, error) {
		var out []net.Listener
		for _, a := range addrs {
			l := given.take(string(a))
			if l == nil {
				var err error
				if l, err = net.Listen("tcp", string(a)); err != nil {
					return nil, fmt.Errorf("%s: %w", key, err)
				}
			}
			g.listeners = append(g.listeners, l)
			out = append(out, l)
		}
		return out, nil
	}
	var errs [6]error
	if g.smtp != nil {
		g.submission, errs[0] = open("submission.listen", g.c.Submission.Listen...)
		g.submissionTLS, errs[1] = open("submission.listen_tls", g.c.Submission.ListenTLS...)
	}
	g.web, errs[2] = open("tracking.web.listen", g.c.Tracking.Web.Listen...)
	if g.acme != nil {
		errs[5] = g.listenACME(open)
	}
	if g.reports != nil {
		g.port25, errs[4] = open("reports.listen", g.c.Reports.Listen...)
	}
	if g.c.Admin.Listen != "" {
		var ls []net.Listener
		if ls, errs[3] = open("admin.listen", config.Addr(g.c.Admin.Listen)); len(ls) > 0 {
			g.adminListener = ls[0]
		}
	}
	for _, l := range given.free {
		g.log.Warn("an inherited listener is named by no key of the configuration", "addr", l.Addr().String())
		l.Close()
	}
	return errors.Join(errs[:]...)
}

func (g *gateway) trackerListener(l net.Listener) net.Listener {
	if from := prefixes(g.c.Tracking.Web.TrustedProxies); len(from) > 0 {
		l = web.Proxied(l, from)
	}
	if g.c.Tracking.Web.TLS {
		return tls.NewListener(l, g.certs.Config(true))
	}
	return l
}

// serveHTTP serves until ctx ends, then lets requests finish.
func serveHTTP(ctx context.Context, s *http.Server, l net.Listener, grace time.Duration) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		c, cancel := context.WithTimeout(context.Background(), grace)
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

func addrs(ls []net.Listener) []string {
	var out []string
	for _, l := range ls {
		if l != nil {
			out = append(out, l.Addr().String())
		}
	}
	return out
}
