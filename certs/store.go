package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Pair names a certificate chain and its key.
type Pair struct{ CertFile, KeyFile string }

// Store holds the certificates of the listeners and takes new ones while they
// serve. Several stand side by side: the client's SNI and the kinds of key that
// it knows choose; the first is the default. It is safe for concurrent use.
type Store struct {
	min   uint16
	log   *slog.Logger
	mu    sync.Mutex // of loading
	pairs []Pair
	seen  map[string]stamp // the files that were tried last
	moved map[string]stamp // what the last look saw, where that is news
	now   atomic.Pointer[configs]
}

// configs are made once for each set of certificates, so that sessions resume.
type configs struct {
	plain, http *tls.Config
	expiry      func() time.Time
}

// NewStore makes a store for listeners that speak at least minVersion.
func NewStore(minVersion uint16, log *slog.Logger) *Store { return &Store{min: minVersion, log: log} }

// Use takes certificates from now on; handshakes under way are not touched.
// Files that were loaded before are no longer looked at.
func (s *Store) Use(list ...tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.pairs = nil
	s.use(list)
}

func (s *Store) use(list []tls.Certificate) {
	c := &configs{
		plain:  ServerConfig(list, s.min),
		http:   ServerConfig(list, s.min),
		expiry: func() time.Time { return firstExpiry(list) },
	}
	c.http.NextProtos = []string{"h2", "http/1.1"}
	s.now.Store(c)
}

// UseACME asks an ACME for the certificate of each handshake from now on. HTTP
// listeners answer its challenges, too.
func (s *Store) UseACME(a *ACME) {
	c := &configs{
		plain:  ServerConfig(nil, s.min),
		http:   ServerConfig(nil, s.min),
		expiry: a.Expiry,
	}
	c.plain.GetCertificate = a.GetCertificate
	c.http.GetCertificate = a.GetCertificate
	c.http.NextProtos = []string{"h2", "http/1.1", ALPN}
	s.now.Store(c)
}

func firstExpiry(list []tls.Certificate) time.Time {
	var first time.Time
	for _, c := range list {
		if c.Leaf != nil && (first.IsZero() || c.Leaf.NotAfter.Before(first)) {
			first = c.Leaf.NotAfter
		}
	}

	return first
}

// Load reads pairs and uses them, all or none.
func (s *Store) Load(pairs ...Pair) error {
	use, err := s.Prepare(pairs...)
	if err != nil {
		return err
	}

	use()
	return nil
}

// Prepare reads pairs, all or none. They are in use, and their files are
// looked at, once use is called.
func (s *Store) Prepare(pairs ...Pair) (use func(), err error) {
	seen := stamps(pairs)
	list, err := readPairs(pairs)
	if err != nil {
		return nil, err
	}

	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()

		s.pairs = pairs
		s.seen = seen
		s.use(list)
	}, nil
}

func readPairs(pairs []Pair) ([]tls.Certificate, error) {
	list := make([]tls.Certificate, len(pairs))
	var errs []error
	for i, p := range pairs {
		c, err := Files(p.CertFile, p.KeyFile)
		list[i] = c
		errs = append(errs, err)
	}

	return list, errors.Join(errs...)
}

// stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

func stamps(pairs []Pair) map[string]stamp {
	seen := map[string]stamp{}
	for _, p := range pairs {
		for _, f := range []string{p.CertFile, p.KeyFile} {
			if i, err := os.Stat(f); err == nil {
				seen[f] = stamp{modified: i.ModTime(), size: i.Size()}
			}
		}
	}

	return seen
}

const warnBefore = 14 * 24 * time.Hour

// Watch looks at the files every now and then until ctx ends, and takes what
// changed and stood still since the look before. A pair that does not fit is
// not taken: the old one goes on.
func (s *Store) Watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()

	var warned time.Time
	for {
		s.check()

		if left := time.Until(s.Expiry()); left < warnBefore && time.Since(warned) > 24*time.Hour {
			warned = time.Now()
			s.log.Warn("certificate runs out soon",
				"in_seconds", left.Round(time.Minute).Seconds(), "until", s.Expiry())
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) check() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if len(s.pairs) == 0 {
		return
	}

	now := stamps(s.pairs)
	if maps.Equal(now, s.seen) {
		s.moved = nil
		return
	}

	if s.moved == nil || !maps.Equal(now, s.moved) { // it may be one that is being written
		s.moved = now
		return
	}

	s.seen = now // tried, whatever comes of it
	list, err := readPairs(s.pairs)
	if err != nil {
		s.log.Error("changed certificate not taken, the old one goes on", "err", err)
		return
	}

	s.use(list)
	s.log.Info("certificate taken", "until", s.Expiry())
}

// Expiry is when the first of the certificates runs out.
func (s *Store) Expiry() time.Time {
	return s.now.Load().expiry()
}

// Config is for tls.Server and tls.NewListener. http says whether HTTP is
// spoken, whose protocols are then negotiated.
func (s *Store) Config(http bool) *tls.Config {
	c := ServerConfig(nil, s.min)
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if http {
			return s.now.Load().http, nil
		}
		return s.now.Load().plain, nil
	}
	if http {
		c.NextProtos = []string{"h2", "http/1.1"}
	}

	return c
}

// Register exports when the certificate runs out.
func (s *Store) Register(r prometheus.Registerer) {
	opts := prometheus.GaugeOpts{
		Name: "postern_certificate_expiry_seconds",
		Help: "Unix time at which the first certificate runs out.",
	}
	r.MustRegister(prometheus.NewGaugeFunc(opts, func() float64 {
		return float64(s.Expiry().Unix())
	}))
}
