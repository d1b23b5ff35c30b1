package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lookingStore returns a store and its log.
func lookingStore() (*Store, *logText) {
	log := &logText{}

	return NewStore(tls.VersionTLS12, slog.New(slog.NewTextHandler(log, nil))), log
}

// logText is the text of a log, which may be read while it is written.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.String()
}

// take returns what was logged since the last call.
func (l *logText) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.String()
	l.text.Reset()

	return text
}

// until returns a certificate that expires at a time.
func until(t *testing.T, at time.Time) tls.Certificate {
	t.Helper()

	return tls.Certificate{Leaf: &x509.Certificate{NotAfter: at}}
}

func TestExpiryIsThatOfTheFirst(t *testing.T) {
	at := func(hours int) time.Time { return time.Date(2026, 1, 1, hours, 0, 0, 0, time.UTC) }
	none := tls.Certificate{}
	for _, c := range []struct {
		name string
		list []tls.Certificate
		want time.Time
	}{
		{"none", nil, time.Time{}},
		{"one", []tls.Certificate{until(t, at(3))}, at(3)},
		{"the first", []tls.Certificate{until(t, at(1)), until(t, at(2)), until(t, at(3))}, at(1)},
		{"in the middle", []tls.Certificate{until(t, at(2)), until(t, at(1)), until(t, at(3))}, at(1)},
		{"the last", []tls.Certificate{until(t, at(3)), until(t, at(2)), until(t, at(1))}, at(1)},
		{"one that was not parsed", []tls.Certificate{none, until(t, at(2)), none}, at(2)},
	} {
		s, _ := lookingStore()
		s.Use(c.list...)
		if got := s.Expiry(); !got.Equal(c.want) {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestWarnsOnceADay checks the warnings, from 14 days before a certificate
// expires.
func TestWarnsOnceADay(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		s, log := lookingStore()
		s.Use(until(t, time.Now().Add(15*day)))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			s.Watch(ctx, time.Hour)
			close(ended)
		}()
		for _, step := range []struct {
			name  string
			sleep time.Duration
			want  int
		}{
			{"15 days before", 0, 0},
			{"14 days before", day, 0},
			{"an hour later", time.Hour, 1},
			{"a day after the warning", day, 1},
			{"an hour later", time.Hour, 2},
		} {
			time.Sleep(step.sleep)
			synctest.Wait()
			if got := strings.Count(log.String(), "certificate expires soon"); got != step.want {
				t.Errorf("%s: warned %d times, want %d", step.name, got, step.want)
			}
		}
		if want := "in_seconds=1.206e+06"; !strings.Contains(log.String(), want) {
			t.Errorf("the log says\n%s\nwant %s", log, want)
		}
		cancel()
		<-ended
	})
}

// TestChangedPairIsTakenWhenItStandsStill checks that a changed pair is loaded,
// once, when it is the same at two checks.
func TestChangedPairIsTakenWhenItStandsStill(t *testing.T) {
	dir := t.TempDir()
	s, log := lookingStore()
	p := writeTestPair(t, dir, "a", "a.example", "ecdsa", 1)
	if err := s.Load(p); err != nil {
		t.Fatal(err)
	}
	spare := t.TempDir()
	second := writeTestPair(t, spare, "b", "a.example", "ecdsa", 2)
	third := writeTestPair(t, spare, "c", "a.example", "ecdsa", 3)
	base := time.Now().Truncate(time.Second)
	state := func(number int, from Pair) { // writes a state of the files, by their time
		for to, f := range map[string]string{p.CertFile: from.CertFile, p.KeyFile: from.KeyFile} {
			if err := os.WriteFile(to, readFile(t, f), 0o600); err != nil {
				t.Fatal(err)
			}
			at := base.Add(time.Duration(number) * time.Minute)
			if err := os.Chtimes(to, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	original := Pair{filepath.Join(spare, "o.crt"), filepath.Join(spare, "o.key")}
	for to, from := range map[string]string{original.CertFile: p.CertFile, original.KeyFile: p.KeyFile} {
		if err := os.WriteFile(to, readFile(t, from), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state(0, original)
	if err := s.Load(p); err != nil {
		t.Fatal(err)
	}

	for _, step := range []struct {
		name   string
		change func()
		serial int64
	}{
		{"nothing changed", func() {}, 1},
		{"changed just now", func() { state(1, second) }, 1},
		{"and back", func() { state(0, original) }, 1},
		{"changed once more", func() { state(1, second) }, 1},
		{"and once more, it is still being written", func() { state(2, third) }, 1},
		{"it stands still", func() {}, 3},
		{"changed in its time alone", func() { state(3, third) }, 3},
		{"and in nothing", func() {}, 3},
		{"the certificate changed", func() { state(4, Pair{second.CertFile, third.KeyFile}) }, 3},
		{"and does not fit", func() {}, 3},
		{"it is not tried again", func() {}, 3},
		{"nor again", func() {}, 3},
		{"its key came", func() { state(5, second) }, 3},
		{"it stands still", func() {}, 2},
	} {
		step.change()
		s.check()
		got := serial(t, s, &tls.Config{ServerName: "a.example"})
		if got != step.serial {
			t.Errorf("%s: certificate %d, want %d", step.name, got, step.serial)
		}
	}
	if n := strings.Count(log.String(), "cannot reload certificate"); n != 1 {
		t.Errorf("said %d times that one was not reloaded, want once:\n%s", n, log)
	}
	if n := strings.Count(log.String(), "certificate reloaded"); n != 3 {
		t.Errorf("said %d times that one was reloaded, want three times:\n%s", n, log)
	}

	// Files that are gone are no reason to serve nothing.
	for _, f := range []string{p.CertFile, p.KeyFile} {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	log.take()
	s.check()
	if text := log.take(); text != "" {
		t.Errorf("at the first look: %s", text)
	}
	for range 3 {
		s.check()
	}
	if n := strings.Count(log.String(), "cannot reload certificate"); n != 1 {
		t.Errorf("removed: said %d times, want once:\n%s", n, log)
	}
	if got := serial(t, s, &tls.Config{ServerName: "a.example"}); got != 2 {
		t.Errorf("removed: certificate %d, want 2", got)
	}
}

// TestChangeIsSeenInEachFile checks that a change of the size is noticed
// although the time is the same.
func TestChangeIsSeenInEachFile(t *testing.T) {
	dir := t.TempDir()
	p := writeTestPair(t, dir, "a", "a.example", "ecdsa", 1)
	at := time.Now().Truncate(time.Second)
	for _, f := range []string{p.CertFile, p.KeyFile} {
		if err := os.Chtimes(f, at, at); err != nil {
			t.Fatal(err)
		}
	}
	before := stamps([]Pair{p})
	if len(before) != 2 {
		t.Errorf("got %v, want a stamp for each file", before)
	}
	for _, f := range []string{p.CertFile, p.KeyFile} {
		data := readFile(t, f)
		if err := os.WriteFile(f, append(data, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(f, at, at); err != nil {
			t.Fatal(err)
		}
		if maps.Equal(stamps([]Pair{p}), before) {
			t.Errorf("%s: its size is not looked at", f)
		}
		if err := os.WriteFile(f, data, 0o600); err != nil {
			t.Fatal(err)
		}
		later := at.Add(time.Second)
		if err := os.Chtimes(f, later, later); err != nil {
			t.Fatal(err)
		}
		if maps.Equal(stamps([]Pair{p}), before) {
			t.Errorf("%s: its time is not looked at", f)
		}
		if err := os.Chtimes(f, at, at); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(stamps([]Pair{p}), before) {
			t.Errorf("%s: a change is seen where there is none", f)
		}
	}
	if got := stamps([]Pair{{"missing.crt", "missing.key"}}); len(got) != 0 {
		t.Errorf("of files that are missing: got %v", got)
	}
}

// TestLoadTakesAllOrNone checks that one unreadable pair leaves the
// certificates in use, and that the error names it.
func TestLoadTakesAllOrNone(t *testing.T) {
	dir := t.TempDir()
	s, _ := lookingStore()
	old := writeTestPair(t, dir, "old", "a.example", "ecdsa", 1)
	if err := s.Load(old); err != nil {
		t.Fatal(err)
	}
	good := writeTestPair(t, dir, "good", "a.example", "ecdsa", 2)
	broken := Pair{good.CertFile, old.KeyFile}
	missing := Pair{filepath.Join(dir, "missing.crt"), filepath.Join(dir, "missing.key")}
	for _, list := range [][]Pair{{broken}, {good, broken}, {broken, good}, {good, missing}} {
		err := s.Load(list...)
		if err == nil {
			t.Errorf("%v: got no error", list)
		}
		if got := serial(t, s, &tls.Config{ServerName: "a.example"}); got != 1 {
			t.Errorf("%v: certificate %d, want the old one", list, got)
		}
	}
	err := s.Load(broken, missing)
	if err == nil || !strings.Contains(err.Error(), broken.CertFile) || !strings.Contains(err.Error(), missing.CertFile) {
		t.Errorf("got %v, want both named", err)
	}
	if !maps.Equal(s.loaded, stamps([]Pair{old})) || len(s.pairs) != 1 || s.pairs[0] != old {
		t.Errorf("what is looked at changed to %v", s.pairs)
	}
	if err := s.Load(good); err != nil {
		t.Fatal(err)
	}
	if got := serial(t, s, &tls.Config{ServerName: "a.example"}); got != 2 {
		t.Errorf("certificate %d, want 2", got)
	}
}

// TestConfigOfEachListener checks that HTTP is negotiated by HTTP listeners
// only, and that no version below the configured one is.
func TestConfigOfEachListener(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(tls.VersionTLS13, slog.New(slog.DiscardHandler))
	if err := s.Load(writeTestPair(t, dir, "a", "a.example", "ecdsa", 1)); err != nil {
		t.Fatal(err)
	}
	negotiated := func(http bool, protocols ...string) (string, error) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		config := s.Config()
		if http {
			config = s.HTTPConfig()
		}
		go tls.Server(a, config).Handshake()
		c := tls.Client(b, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		err := c.Handshake()
		return c.ConnectionState().NegotiatedProtocol, err
	}
	for _, c := range []struct {
		http   bool
		offers []string
		want   string
		fails  bool
	}{
		{true, []string{"h2", "http/1.1"}, "h2", false},
		{true, []string{"http/1.1"}, "http/1.1", false},
		{true, []string{"x"}, "", true},
		{true, []string{ALPN}, "", true},
		{false, []string{"h2", "http/1.1"}, "", false},
	} {
		got, err := negotiated(c.http, c.offers...)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("HTTP %v, offered %v: got %q, %v, want %q", c.http, c.offers, got, err, c.want)
		}
	}
	if got := s.HTTPConfig().NextProtos; !slices.Equal(got, []string{"h2", "http/1.1"}) {
		t.Errorf("for an HTTP server: %v", got)
	}
	if got := s.Config().NextProtos; len(got) != 0 {
		t.Errorf("for another: %v", got)
	}
	if got := s.Config().MinVersion; got != tls.VersionTLS13 {
		t.Errorf("at least %x, want TLS 1.3", got)
	}
	err := handshake(t, s.Config(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil || err.Error() != "remote error: tls: protocol version not supported" {
		t.Errorf("TLS 1.2: got %v", err)
	}
}

func TestMetricOfTheExpiry(t *testing.T) {
	s, _ := lookingStore()
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	s.Use(until(t, at))
	reg := prometheus.NewRegistry()
	s.Register(reg)
	list, err := reg.Gather()
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	if m := list[0]; m.GetName() != "postern_certificate_expiry_seconds" || m.GetHelp() == "" || m.GetMetric()[0].GetGauge().GetValue() != float64(at.Unix()) {
		t.Errorf("got %v, want %d", m, at.Unix())
	}
}

// TestWarnsOfExpiry checks the warning 14 days ahead.
func TestWarnsOfExpiry(t *testing.T) {
	for _, c := range []struct {
		name string
		left time.Duration
		warn bool
	}{{"in 13 days", 13 * 24 * time.Hour, true}, {"in 15 days", 15 * 24 * time.Hour, false}} {
		t.Run(c.name, func(t *testing.T) {
			cert, err := SelfSigned(t.TempDir(), "a.example", time.Now().Add(c.left-localLife))
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			s := NewStore(tls.VersionTLS12, slog.New(slog.NewTextHandler(&out, nil)))
			s.Use(cert)
			reg := prometheus.NewRegistry()
			s.Register(reg)
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			s.Watch(ctx, time.Hour) // looks once
			if got := strings.Contains(out.String(), "certificate expires soon"); got != c.warn {
				t.Errorf("the log says %q", out.String())
			}
			metrics, err := reg.Gather()
			if err != nil || len(metrics) != 1 || metrics[0].GetMetric()[0].GetGauge().GetValue() != float64(cert.Leaf.NotAfter.Unix()) {
				t.Errorf("%v %v", metrics, err)
			}
		})
	}
}
