package relay

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/tracking/event"
	"postern/tracking/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rooms counts reservations. At the end of a test none may be held, nor may one
// have been given back twice.
type rooms struct {
	mu    sync.Mutex
	asked []int64 // bytes of each reservation
	held  map[int]bool
	twice int
}

func (r *rooms) reserve(n int64) func() {
	r.mu.Lock()
	defer r.mu.Unlock()

	id := len(r.asked)
	r.asked = append(r.asked, n)
	if r.held == nil {
		r.held = map[int]bool{}
	}
	r.held[id] = true

	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.held[id] {
			r.twice++
		}
		delete(r.held, id)
	}
}

func (r *rooms) holds() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held)
}

func (r *rooms) check(t testing.TB, of string) {
	t.Helper()
	if n := r.holds(); n > 0 {
		t.Errorf("%s: %d of %d reservations are still held", of, n, len(r.asked))
	}
	if r.twice > 0 {
		t.Errorf("%s: %d reservations were given back twice", of, r.twice)
	}
}

// fakeUpstream answers by recipient and keeps what it took.
type fakeUpstream struct {
	mu      sync.Mutex
	answers map[string]upstream.Outcome // by local part; none: 250
	got     []upstream.Transaction
	forget  bool // keep nothing
	ping    error
	during  func() // runs while a copy is taken
}

func (f *fakeUpstream) Send(_ context.Context, t *upstream.Transaction) upstream.Outcome {
	if f.during != nil {
		f.during()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.forget {
		c := *t
		c.Message = [][]byte{bytes.Join(t.Message, nil)}
		f.got = append(f.got, c)
	}
	if o, ok := f.answers[t.Recipient.Address.Local]; ok {
		return o
	}
	return replied(250, "taken")
}

func (f *fakeUpstream) Ping(context.Context) error { return f.ping }

func (f *fakeUpstream) TakesEightBit() bool { return true }

func replied(code int, text string) upstream.Outcome {
	return upstream.Outcome{Reply: reply.Reply{Code: code, Enhanced: reply.EnhancedCode{code / 100, 1, 1}, Text: text}}
}

// fakeRecorder keeps events.
type fakeRecorder struct {
	rooms
	mu       sync.Mutex
	events   []*event.Event
	calls    []int // events of each call
	most     int   // encoded bytes of one call
	encoded  int64 // bytes of all calls
	reserved int64
	full     bool
	broken   bool
	during   func()
}

var errDisk = errors.New("disk on fire")

func (f *fakeRecorder) Record(ctx context.Context, es ...*event.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.during != nil {
		f.during()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, len(es))
	if f.broken {
		return errDisk
	}
	f.events = append(f.events, es...)
	n := 0
	for _, e := range es {
		line, err := e.Encode()
		if err != nil {
			return err
		}
		n += len(line)
	}
	f.most, f.encoded = max(f.most, n), f.encoded+int64(n)
	return nil
}

func (f *fakeRecorder) Reserve(n int64) (func(), error) {
	f.reserved = n
	if f.full {
		return nil, errors.New("no space")
	}
	return f.reserve(n), nil
}

// types returns the types of the events, in order.
func (f *fakeRecorder) types() []event.Type {
	var types []event.Type
	for _, e := range f.events {
		types = append(types, e.Type)
	}
	return types
}

// fakeQueue keeps what is put.
type fakeQueue struct {
	rooms
	mu     sync.Mutex
	got    []*queue.Transaction
	full   bool
	broken bool
	good   int // calls of Put that work, where broken
	during func()
}

func (f *fakeQueue) Reserve(n int64) (func(), error) {
	if f.full {
		return nil, errors.New("no space")
	}
	return f.reserve(n), nil
}

func (f *fakeQueue) Put(ctx context.Context, ts ...*queue.Transaction) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.during != nil {
		f.during()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken && f.good <= 0 {
		return errDisk
	}
	f.good--
	f.got = append(f.got, ts...)
	return nil
}

// testKey is made once: RSA keys take their time.
var testKey = sync.OnceValue(func() crypto.Signer {
	k, _, err := dkim.Generate("rsa2048")
	if err != nil {
		panic(err)
	}
	return k
})

// tokenKeys are made once: they are on disk before they are used.
var tokenKeys = sync.OnceValues(func() (*token.Keys, error) {
	dir, err := os.MkdirTemp("", "postern-relay")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	file := filepath.Join(dir, "keys")
	if _, err := token.AddKey(file, time.Now()); err != nil {
		return nil, err
	}
	return token.ReadKeys(file)
})

type bench struct {
	relay *Relay
	queue *fakeQueue
	up    *fakeUpstream
	rec   *fakeRecorder
	keys  *token.Keys
}

// newBench returns a relay among fakes. When the test ends, nothing that it
// reserved may be held.
func newBench(t testing.TB, change func(*Config)) *bench {
	t.Helper()
	keys, err := tokenKeys()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		up:    &fakeUpstream{answers: map[string]upstream.Outcome{}},
		rec:   &fakeRecorder{},
		queue: &fakeQueue{},
		keys:  keys,
	}
	t.Cleanup(func() {
		b.rec.check(t, "events")
		b.queue.check(t, "retry spool")
	})

	c := Config{
		Hostname: "gw.example",
		Keys:     keys,
		Upstream: b.up,
		Events:   b.rec,
		Queue:    b.queue,
		IDs:      event.NewIDs(),
		Headers: Headers{
			Names: HeaderNames{
				MessageID:  "X-Sp-Message-Id",
				Job:        "X-Job",
				VirtualMTA: "X-Virtual-MTA",
				Subaccount: "X-Sp-Subaccount-Id",
			},
			Received: "full",
			PowerMTA: true,
		},
		Tracking: TrackingConfig{
			Default: Tracking{URL: "https://t.example", Open: true, InitialOpen: true, Click: true},
		},
		Signing: Signing{
			Signer: dkim.NewSigner([]dkim.Key{{Domain: "example.com", Selector: "s", Private: testKey()}}),
		},
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	b.relay = New(c)
	return b
}

// submit hands a message over and returns the answer.
func (b *bench) submit(s *Submission) string {
	return b.relay.Submit(context.Background(), s).String()
}

func submission(message string, to ...string) *Submission {
	s := &Submission{
		Session:  "s.1",
		User:     User{Name: "u", Tracking: true},
		Remote:   netip.MustParseAddrPort("192.0.2.7:1000"),
		Helo:     "app.example",
		Protocol: "ESMTPSA",
		TLS:      "TLS 1.3 X",
		Message:  []byte(message),
		Envelope: envelope.Envelope{From: envelope.Address{Local: "bounce", Domain: "example.com"}},
	}
	for _, a := range to {
		s.Envelope.Recipients = append(s.Envelope.Recipients, recipient(a))
	}
	return s
}

func recipient(local string) envelope.Recipient {
	return envelope.Recipient{Address: envelope.Address{Local: local, Domain: "Example.NET"}}
}

const htmlMessage = "From: News <news@example.com>\r\nSubject: =?utf-8?q?Fr=C3=BChling?=\r\nDate: x\r\nMessage-ID: <1@x>\r\nContent-Type: text/html\r\n\r\n" +
	"<html><body><a href=\"https://example.com/?a=1&amp;b=2\">x</a></body></html>\r\n"

// metric returns the value of a counter.
func metric(t testing.TB, c prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
