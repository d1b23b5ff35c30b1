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

const (
	warnBefore = 14 * 24 * time.Hour
	warnEvery  = 24 * time.Hour
)

// Pair names the files of a certificate chain and its key.
type Pair struct {
	CertFile string
	KeyFile  string
}

// Store holds the certificates of the listeners, and can replace them while they
// serve. Of several, the server name and the signature algorithms of the client
// select one; the first is the default. A Store is safe for concurrent use.
type Store struct {
	minVersion uint16
	log        *slog.Logger
	current    atomic.Pointer[configs]

	mu      sync.Mutex // held while files are read
	pairs   []Pair
	loaded  map[string]stamp // files as they were when they were read last
	changed map[string]stamp // files as Watch saw them last; nil: as loaded
}

// configs are the configurations for one set of certificates. They are kept as
// long as the set, so that sessions can be resumed.
type configs struct {
	plain  *tls.Config
	http   *tls.Config
	expiry func() time.Time
}

// NewStore returns a store without certificates, for listeners that accept at
// least minVersion.
func NewStore(minVersion uint16, log *slog.Logger) *Store {
	return &Store{minVersion: minVersion, log: log}
}

// Use replaces the certificates for later handshakes. Files that were loaded
// before are no longer watched.
func (s *Store) Use(list ...tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.pairs = nil
	s.use(list)
}

func (s *Store) use(list []tls.Certificate) {
	c := &configs{
		plain:  ServerConfig(list, s.minVersion),
		http:   ServerConfig(list, s.minVersion),
		expiry: func() time.Time { return firstExpiry(list) },
	}
	c.http.NextProtos = []string{"h2", "http/1.1"}
	s.current.Store(c)
}

// UseACME takes the certificates of later handshakes from an ACME. HTTP listeners
// answer its challenges, too.
func (s *Store) UseACME(a *ACME) {
	c := &configs{
		plain:  ServerConfig(nil, s.minVersion),
		http:   ServerConfig(nil, s.minVersion),
		expiry: a.Expiry,
	}
	c.plain.GetCertificate = a.GetCertificate
	c.http.GetCertificate = a.GetCertificate
	c.http.NextProtos = []string{"h2", "http/1.1", ALPN}
	s.current.Store(c)
}

// firstExpiry returns when the first of the certificates expires.
func firstExpiry(list []tls.Certificate) time.Time {
	var first time.Time
	for _, c := range list {
		if c.Leaf != nil && (first.IsZero() || c.Leaf.NotAfter.Before(first)) {
			first = c.Leaf.NotAfter
		}
	}

	return first
}

// Load reads pairs and uses all of them, or, if one cannot be read, none.
func (s *Store) Load(pairs ...Pair) error {
	use, err := s.Prepare(pairs...)
	if err != nil {
		return err
	}

	use()

	return nil
}

// Prepare reads pairs. The function use makes them the store's certificates, and
// their files those that are watched.
func (s *Store) Prepare(pairs ...Pair) (use func(), err error) {
	loaded := stamps(pairs)
	list, err := readPairs(pairs)
	if err != nil {
		return nil, err
	}

	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()

		s.pairs = pairs
		s.loaded = loaded
		s.use(list)
	}, nil
}

// readPairs reads all pairs. The error is that of all pairs that cannot be read.
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

// stamp identifies a version of a file.
type stamp struct {
	modified time.Time
	size     int64
}

// stamps returns the stamps of the files of pairs; those that are missing have
// none.
func stamps(pairs []Pair) map[string]stamp {
	found := map[string]stamp{}
	for _, p := range pairs {
		for _, f := range []string{p.CertFile, p.KeyFile} {
			if info, err := os.Stat(f); err == nil {
				found[f] = stamp{modified: info.ModTime(), size: info.Size()}
			}
		}
	}

	return found
}

// Watch checks the files at an interval until ctx ends. If they have changed, and
// are the same at the next check, they are loaded; if that fails, the certificates
// in use remain. Watch also warns of certificates that expire soon.
func (s *Store) Watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()

	var warned time.Time
	for {
		s.check()

		left := time.Until(s.Expiry())
		if left < warnBefore && time.Since(warned) > warnEvery {
			warned = time.Now()
			s.log.Warn("certificate expires soon",
				"in_seconds", left.Round(time.Minute).Seconds(), "until", s.Expiry())
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// check loads the files if they have changed and are no longer being written.
func (s *Store) check() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if len(s.pairs) == 0 {
		return
	}

	found := stamps(s.pairs)
	if maps.Equal(found, s.loaded) {
		s.changed = nil
		return
	}

	if s.changed == nil || !maps.Equal(found, s.changed) { // may still be written
		s.changed = found
		return
	}

	s.loaded = found // also if it fails: it is not tried again before the next change
	list, err := readPairs(s.pairs)
	if err != nil {
		s.log.Error("cannot reload certificate, keeping the one in use", "err", err)
		return
	}

	s.use(list)
	s.log.Info("certificate reloaded", "until", s.Expiry())
}

// Expiry returns when the first of the certificates expires.
func (s *Store) Expiry() time.Time {
	return s.current.Load().expiry()
}

// Config returns the configuration of a listener that does not speak HTTP.
func (s *Store) Config() *tls.Config {
	c := ServerConfig(nil, s.minVersion)
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return s.current.Load().plain, nil
	}

	return c
}

// HTTPConfig returns the configuration of an HTTP listener, which negotiates
// HTTP/2.
func (s *Store) HTTPConfig() *tls.Config {
	c := ServerConfig(nil, s.minVersion)
	c.NextProtos = []string{"h2", "http/1.1"}
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return s.current.Load().http, nil
	}

	return c
}

// Register registers the metric of the first expiry.
func (s *Store) Register(r prometheus.Registerer) {
	opts := prometheus.GaugeOpts{
		Name: "postern_certificate_expiry_seconds",
		Help: "Unix time at which the first certificate expires.",
	}
	r.MustRegister(prometheus.NewGaugeFunc(opts, func() float64 {
		return float64(s.Expiry().Unix())
	}))
}
