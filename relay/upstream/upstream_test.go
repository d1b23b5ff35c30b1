package upstream_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern/cmd/postern/demo/sink"
	"postern/relay/envelope"
	"postern/relay/reply"
	"postern/relay/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// upstreamServer is a sink with what it kept.
type upstreamServer struct {
	*sink.Server
	addr string
	mu   sync.Mutex
	got  []*sink.Message
}

func (u *upstreamServer) kept() []*sink.Message {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*sink.Message(nil), u.got...)
}

func start(t *testing.T, c sink.Config) *upstreamServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	return startOn(t, l, l.Addr().String(), c)
}

func startOn(t *testing.T, l net.Listener, addr string, c sink.Config) *upstreamServer {
	u := &upstreamServer{addr: addr}
	c.Keep = func(m *sink.Message) {
		u.mu.Lock()
		u.got = append(u.got, m)
		u.mu.Unlock()
	}
	u.Server = sink.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); u.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	return u
}

func pool(t *testing.T, c upstream.Config) *upstream.Pool {
	c.Hostname, c.Log = "gateway.example", quiet
	if c.TLS == "" {
		c.TLS = upstream.TLSOpportunistic
	}
	p := upstream.New(c)
	watch(t, p)
	return p
}

func transaction() *upstream.Transaction {
	return &upstream.Transaction{
		From:      envelope.Address{Local: "a", Domain: "example.com"},
		Recipient: envelope.Recipient{Address: envelope.Address{Local: "odd one", Domain: "example.net"}, Notify: []string{"FAILURE"}},
		Params:    envelope.MailParams{EnvelopeID: "id+1"},
		Message:   [][]byte{[]byte("Sig: x\r\n"), []byte("From: a@example.com\r\n\r\n.dot\r\nlast line")},
	}
}

const arrived = "Sig: x\r\nFrom: a@example.com\r\n\r\n.dot\r\nlast line\r\n"

// TestPhases fails in each phase in each way.
func TestPhases(t *testing.T) {
	at := func(phase string, a sink.Action) func(string, string) sink.Action {
		return func(p, _ string) sink.Action {
			if p == phase {
				return a
			}
			return sink.Action{}
		}
	}
	drop, hang := sink.Action{Drop: true}, sink.Action{Delay: time.Hour, Drop: true}
	for _, c := range []struct {
		name     string
		script   func(string, string) sink.Action
		code     int // the client's
		text     string
		doubtful bool
		kept     int
	}{
		{name: "all well", code: 250, text: "Ok: taken", kept: 1},
		{name: "greeting 554", script: at("connect", sink.Action{Reply: "554 5.7.1 no"}), code: 451},
		{name: "greeting 421", script: at("connect", sink.Action{Reply: "421 4.3.2 busy"}), code: 451},
		{name: "greeting dropped", script: at("connect", drop), code: 451},
		{name: "greeting hangs", script: at("connect", hang), code: 451},
		{name: "greeting is no SMTP", script: at("connect", sink.Action{Reply: "HTTP/1.1 400 Bad Request"}), code: 451},
		{name: "EHLO 421", script: at("EHLO", sink.Action{Reply: "421 4.3.2 busy"}), code: 451},
		{name: "EHLO dropped", script: at("EHLO", drop), code: 451},
		{name: "MAIL 550", script: at("MAIL", sink.Action{Reply: "550 5.7.1 not you"}), code: 550, text: "not you"},
		{name: "MAIL 451", script: at("MAIL", sink.Action{Reply: "451 4.3.0 later"}), code: 451, text: "later"},
		{name: "MAIL 421", script: at("MAIL", sink.Action{Reply: "421 4.3.0 bye", Drop: true}), code: 421, text: "bye"},
		{name: "MAIL dropped", script: at("MAIL", drop), code: 451},
		{name: "MAIL hangs", script: at("MAIL", hang), code: 451},
		{name: "RCPT 550, several lines", script: at("RCPT", sink.Action{Reply: "550-5.1.1 no such\r\n550 5.1.1 user"}), code: 550, text: "no such\nuser"},
		{name: "RCPT 452", script: at("RCPT", sink.Action{Reply: "452 4.2.2 full"}), code: 452, text: "full"},
		{name: "RCPT without enhanced code", script: at("RCPT", sink.Action{Reply: "550 unknown"}), code: 550, text: "unknown"},
		{name: "RCPT dropped", script: at("RCPT", drop), code: 451},
		{name: "DATA 554", script: at("DATA", sink.Action{Reply: "554 5.5.1 no"}), code: 554, text: "no"},
		{name: "DATA dropped", script: at("DATA", drop), code: 451},
		{name: "DATA answered 250", script: at("DATA", sink.Action{Reply: "250 what"}), code: 451},
		{name: "dot 550", script: at(".", sink.Action{Reply: "550 5.7.1 spam"}), code: 550, text: "spam"},
		{name: "dot 451", script: at(".", sink.Action{Reply: "451 4.7.1 greylisted"}), code: 451, text: "greylisted"},
		{name: "dot 421", script: at(".", sink.Action{Reply: "421 4.3.2 stopping"}), code: 421, text: "stopping"},
		{name: "taken, then dropped", script: at(".", drop), code: 451, doubtful: true, kept: 1},
		{name: "taken, then hangs", script: at(".", hang), code: 451, doubtful: true, kept: 1},
	} {
		for _, pipelining := range []bool{true, false} {
			name := c.name
			ext := []string{"PIPELINING", "DSN"}
			if !pipelining {
				name, ext = name+", one by one", ext[1:]
			}
			run(t, name, func(t *testing.T) {
				n := newNetwork()
				u := n.sink(t, "127.0.0.1:25", sink.Config{Script: c.script, Extensions: ext})
				p, _ := n.pool(t, upstream.Config{Addrs: []string{u.addr}})
				out := p.Send(context.Background(), transaction())
				answer := out.Reply
				if out.Err != nil {
					answer = reply.For(out.Err)
				}
				if answer.Code != c.code || c.text != "" && answer.Text != c.text || out.Doubtful != c.doubtful {
					t.Errorf("got %+v, %v", out, answer)
				}
				got := u.kept()
				if len(got) != c.kept {
					t.Fatalf("%d messages were taken, want %d", len(got), c.kept)
				}
				for _, m := range got {
					if string(m.Data) != arrived || m.From != "a@example.com" || m.To != `"odd one"@example.net` {
						t.Errorf("arrived as %q from %s to %s", m.Data, m.From, m.To)
					}
					if !strings.Contains(m.Mail, "ENVID=id+2B1") || !strings.Contains(m.Rcpts[0], "NOTIFY=FAILURE") {
						t.Errorf("parameters: %s, %s", m.Mail, m.Rcpts[0])
					}
				}
			})
		}
	}
}

func TestReuse(t *testing.T) {
	u := start(t, sink.Config{Script: func(phase, line string) sink.Action {
		if phase == "RCPT" && strings.Contains(line, "bad") {
			return sink.Action{Reply: "550 5.1.1 no"}
		}
		return sink.Action{}
	}})
	p := pool(t, upstream.Config{Addrs: []string{u.addr}, MaxMessages: 3})
	bad := transaction()
	bad.Recipient.Address.Local = "bad"
	for i, tr := range []*upstream.Transaction{transaction(), bad, transaction(), transaction()} {
		if out := p.Send(context.Background(), tr); out.Accepted() == (tr == bad) {
			t.Errorf("transaction %d: %+v", i, out)
		}
	}
	if n := u.Connections(); n != 2 {
		t.Errorf("%d connections, want 2: three transactions on the first, and a refusal keeps it", n)
	}
}

// TestStale has the upstream close kept connections: the next transaction goes
// over a new one and nobody notices.
func TestStale(t *testing.T) {
	u := start(t, sink.Config{})
	p := pool(t, upstream.Config{Addrs: []string{u.addr}})
	for range 3 {
		if out := p.Send(context.Background(), transaction()); !out.Accepted() {
			t.Fatalf("%+v", out)
		}
		u.CloseConnections()
	}
	if n := len(u.kept()); n != 3 {
		t.Errorf("%d messages", n)
	}
}

// TestPing: a kept connection that is dead does not pass for an upstream.
func TestPing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); sink.New(sink.Config{}).Serve(ctx, l) }()
	p := pool(t, upstream.Config{Addrs: []string{l.Addr().String()}})
	for range 2 {
		if err := p.Ping(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-done
	if p.Ping(context.Background()) == nil {
		t.Error("the upstream is gone, and Ping is content")
	}
}

func TestFailover(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	sick := start(t, sink.Config{Script: func(phase, _ string) sink.Action {
		if phase == "connect" {
			return sink.Action{Reply: "554 5.3.0 not today", Drop: true}
		}
		return sink.Action{}
	}})
	well := start(t, sink.Config{})
	p := pool(t, upstream.Config{Addrs: []string{dead, sick.addr, well.addr}})
	for range 5 {
		if out := p.Send(context.Background(), transaction()); !out.Accepted() || out.Upstream != well.addr {
			t.Fatalf("%+v", out)
		}
	}
	if n := sick.Connections(); n > 1 {
		t.Errorf("the sick upstream was asked %d times within its pause", n)
	}
	none := pool(t, upstream.Config{Addrs: []string{dead}})
	if r := reply.For(none.Send(context.Background(), transaction()).Err); r.Code != 451 || r.Enhanced != (reply.EnhancedCode{4, 4, 1}) {
		t.Errorf("no upstream at all: %v", r)
	}
}

func TestConnectionLimit(t *testing.T) {
	reached, hold := make(chan struct{}), make(chan struct{})
	u := start(t, sink.Config{Script: func(phase, _ string) sink.Action {
		if phase == "." {
			close(reached)
			<-hold
		}
		return sink.Action{}
	}})
	p := pool(t, upstream.Config{Addrs: []string{u.addr}, MaxConnections: 1, Wait: 50 * time.Millisecond})
	first := make(chan upstream.Outcome)
	go func() { first <- p.Send(context.Background(), transaction()) }()
	<-reached
	second := p.Send(context.Background(), transaction())
	if r := reply.For(second.Err); r.Code != 451 || r.Enhanced != (reply.EnhancedCode{4, 3, 2}) {
		t.Errorf("got %v", r)
	}
	close(hold)
	if out := <-first; !out.Accepted() {
		t.Errorf("the first: %+v", out)
	}
}

func TestAuth(t *testing.T) {
	u := start(t, sink.Config{Password: "gate:way"})
	for _, c := range []struct {
		name, user, password string
		ok                   bool
	}{{"right", "gate", "way", true}, {"wrong", "gate", "no", false}} {
		t.Run(c.name, func(t *testing.T) {
			out := pool(t, upstream.Config{Addrs: []string{u.addr}, Username: c.user, Password: c.password}).Send(context.Background(), transaction())
			if out.Accepted() != c.ok {
				t.Errorf("%+v", out)
			}
			if !c.ok && reply.For(out.Err).Code != 451 {
				t.Errorf("our own wrong password is not the client's fault: %v", out.Err)
			}
		})
	}
}

// TestWriterRefuses: what must not go out never reaches the upstream.
func TestWriterRefuses(t *testing.T) {
	u := start(t, sink.Config{})
	p := pool(t, upstream.Config{Addrs: []string{u.addr}})
	for _, bad := range []string{"a\nb", "a\rb", "a\x00b", "\r\n.\n"} {
		tr := transaction()
		tr.Message[1] = []byte(bad)
		if out := p.Send(context.Background(), tr); out.Err == nil {
			t.Errorf("%q went out", bad)
		}
	}
	if n := len(u.kept()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}

func BenchmarkSend(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go sink.New(sink.Config{}).Serve(ctx, l)
	p := upstream.New(upstream.Config{Hostname: "x", Addrs: []string{l.Addr().String()}, TLS: upstream.TLSOff, Log: quiet})
	defer p.Close()
	tr := transaction()
	tr.Message[1] = append(tr.Message[1], strings.Repeat("0123456789 0123456789 0123456789 0123456789 0123456789\r\n", 550)...)
	b.SetBytes(int64(len(tr.Message[1])))
	b.ReportAllocs()
	for b.Loop() {
		if out := p.Send(ctx, tr); !out.Accepted() {
			b.Fatal(out)
		}
	}
}

// TestEightBit: a message goes to the upstream that takes it, and is told apart
// from one that none takes.
func TestEightBit(t *testing.T) {
	seven := start(t, sink.Config{Extensions: []string{"PIPELINING"}})
	eight := start(t, sink.Config{})
	message := func() *upstream.Transaction {
		tr := transaction()
		tr.EightBit = true
		return tr
	}
	for _, c := range []struct {
		name  string
		addrs []string
		taken bool
		waits bool // 8-bit content may wait as it is afterwards
	}{
		{"none takes it", []string{seven.addr}, false, false},
		{"the second takes it", []string{seven.addr, eight.addr}, true, false},
		{"it takes it", []string{eight.addr}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool(t, upstream.Config{Addrs: c.addrs})
			if p.TakesEightBit() {
				t.Error("said to take it before anybody asked")
			}
			out := p.Send(context.Background(), message())
			if out.Accepted() != c.taken || errors.Is(out.Err, upstream.ErrEightBit) == c.taken {
				t.Errorf("%+v", out)
			}
			if p.TakesEightBit() != c.waits {
				t.Errorf("may wait as it is: %v", !c.waits)
			}
		})
	}
	if n := len(seven.kept()); n != 0 {
		t.Errorf("%d messages to the upstream without 8BITMIME", n)
	}
}

// TestInternational: SMTPUTF8 goes with what needs it, to an upstream that
// offers it.
func TestInternational(t *testing.T) {
	old := start(t, sink.Config{Extensions: []string{"PIPELINING", "8BITMIME"}})
	modern := start(t, sink.Config{})
	address := func(s string) envelope.Address {
		a, err := envelope.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct {
		name     string
		change   func(*upstream.Transaction)
		addrs    []string
		code     int // of the refusal; 0: taken
		smtputf8 bool
	}{
		{"plain", func(*upstream.Transaction) {}, []string{old.addr}, 0, false},
		{"asked for and not needed", func(tr *upstream.Transaction) { tr.Params.UTF8 = true }, []string{old.addr}, 0, false},
		{"asked for", func(tr *upstream.Transaction) { tr.Params.UTF8 = true }, []string{modern.addr}, 0, true},
		{"header", func(tr *upstream.Transaction) { tr.Params.UTF8, tr.Params.NeedsUTF8 = true, true }, []string{old.addr}, 550, false},
		{"recipient", func(tr *upstream.Transaction) { tr.Recipient.Address = address("用户@例え.example") }, []string{old.addr}, 550, false},
		{"sender, the second upstream takes it", func(tr *upstream.Transaction) { tr.From = address("jösé@b.example") }, []string{old.addr, modern.addr}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := transaction()
			c.change(tr)
			out := pool(t, upstream.Config{Addrs: c.addrs}).Send(context.Background(), tr)
			if c.code != 0 {
				if r := reply.For(out.Err); r.Code != c.code || r.Enhanced != (reply.EnhancedCode{5, 6, 7}) || !out.Permanent() {
					t.Errorf("%+v", out)
				}
				return
			}
			if !out.Accepted() {
				t.Fatalf("%+v", out)
			}
			kept := old.kept()
			if c.smtputf8 || len(c.addrs) > 1 {
				kept = modern.kept()
			}
			if m := kept[len(kept)-1]; strings.Contains(m.Mail, " SMTPUTF8") != c.smtputf8 || m.To != tr.Recipient.Address.String() {
				t.Errorf("%s, to %s", m.Mail, m.To)
			}
		})
	}
}

// TestLogin: a client's own credentials, its mail over that connection alone,
// which is opened again where it is lost.
func TestLogin(t *testing.T) {
	s := start(t, sink.Config{Password: "ann:secret"})
	p := pool(t, upstream.Config{Addrs: []string{s.addr}})
	if _, known := p.Mechanisms(); known {
		t.Error("mechanisms of nobody")
	}
	if l, answer, err := p.Login(context.Background(), "ann", "wrong"); l != nil || err != nil || answer.Code != 535 {
		t.Errorf("wrong password: %v %v %v", l, answer, err)
	}
	if mechs, known := p.Mechanisms(); !known || len(mechs) == 0 || mechs[0] != "PLAIN" {
		t.Errorf("mechanisms %v %v", mechs, known)
	}
	l, answer, err := p.Login(context.Background(), "ann", "secret")
	if err != nil || answer.Code != 235 {
		t.Fatal(answer, err)
	}
	defer l.Close()
	for range 3 {
		if out := l.Send(context.Background(), transaction()); !out.Accepted() {
			t.Fatalf("%+v", out)
		}
	}
	kept := s.kept()
	if kept[0].Conn != kept[2].Conn {
		t.Error("not over one connection")
	}
	s.CloseConnections()
	if out := l.Send(context.Background(), transaction()); !out.Accepted() {
		t.Errorf("after the connection was lost: %+v", out)
	}
	l.Close()
	if out := l.Send(context.Background(), transaction()); out.Accepted() {
		t.Error("taken after the session's end")
	}
	away := pool(t, upstream.Config{Addrs: []string{"127.0.0.1:1"}})
	if l, _, err := away.Login(context.Background(), "ann", "secret"); l != nil || err == nil {
		t.Errorf("nobody there: %v, %v", l, err)
	}
}

// TestCheck: an upstream that was away is found back without mail.
func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		p, _ := n.pool(t, upstream.Config{Addrs: []string{"127.0.0.1:25"}})
		if out := p.Send(context.Background(), transaction()); out.Err == nil {
			t.Fatal("nobody was there")
		}
		u := n.sink(t, "127.0.0.1:25", sink.Config{})
		p.Check(context.Background())
		if n := u.Connections(); n != 0 {
			t.Errorf("%d connections within the pause, want none", n)
		}
		time.Sleep(time.Second)
		for range 3 { // well again: nothing more is dialled
			p.Check(context.Background())
		}
		if n := u.Connections(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
		if out := p.Send(context.Background(), transaction()); !out.Accepted() || u.Connections() != 1 {
			t.Errorf("%+v over %d connections, want 1", out, u.Connections())
		}
	})
}

// run is t.Run with a clock that goes on when nothing else does.
func run(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}
