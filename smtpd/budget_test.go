package smtpd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/message"
	"postern/relay/reply"
)

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// dialFrom connects from a loopback address of its own.
func dialFrom(t *testing.T, r *running, source string) *player {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	raw, err := d.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	p := &player{t: t, at: "from " + source, raw: raw, serv: r}
	p.use(raw)
	p.expect("220")

	return p
}

// expect reads a reply that begins so.
func (p *player) expect(prefix string) {
	p.t.Helper()
	if got := p.reply(); !strings.HasPrefix(got[strings.LastIndexByte(got, '\n')+1:], prefix) {
		p.t.Fatalf("%s: got %q, want %q", p.at, got, prefix)
	}
}

// say sends lines, each of which gets its reply.
func (p *player) say(pairs ...string) {
	p.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		p.send(pairs[i] + "\r\n")
		p.expect(pairs[i+1])
	}
}

func reportsWith(b *Budget) func(*setup) {
	return func(c *setup) {
		c.Reports, c.Budget = c.Submit.(*submitter), b
	}
}

func TestPort25ReservesWhatArrives(t *testing.T) {
	t.Parallel()
	b := NewBudget(1 << 20)
	r := startServer(t, reportsWith(b), false)
	p := dialFrom(t, r, "127.0.0.1")
	p.say("EHLO mx.example.net", "250")
	for range 3 {
		p.say("MAIL FROM:<> SIZE=9999", "250", "RSET", "250")
	}
	p.say("MAIL FROM:<> SIZE=9999", "250", "RCPT TO:<x@bounces.example.com>", "250", "DATA", "354")
	if got := b.Used(); got != 0 {
		t.Errorf("%d bytes reserved for a message of which none has come", got)
	}

	p.send("Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 500))
	eventually(t, "what arrived is reserved", func() bool { return b.Used() >= 6000 })
	if got := b.Used(); got > 20000 {
		t.Errorf("%d bytes reserved for 6014", got)
	}

	p.send(".\r\n")
	p.expect("250")
	p.say("NOOP", "250")
	if got := b.Used(); got != 0 {
		t.Errorf("%d bytes reserved after the message", got)
	}
}

func TestPort25SourceHoldsAQuarter(t *testing.T) {
	t.Parallel()
	b := NewBudget(36000) // 9000 for a source
	r := startServer(t, reportsWith(b), false)
	body := "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n", 500)
	begin := func(p *player) {
		p.say("EHLO mx.example.net", "250", "MAIL FROM:<>", "250", "RCPT TO:<x@bounces.example.com>", "250", "DATA", "354")
		p.send(body)
	}

	first := dialFrom(t, r, "127.0.0.1")
	begin(first)
	eventually(t, "the first message is held", func() bool { return b.Used() >= int64(len(body)) })

	second := dialFrom(t, r, "127.0.0.1")
	begin(second)
	second.send(".\r\n")
	second.expect("452 4.3.1")

	other := dialFrom(t, r, "127.0.0.2")
	begin(other)
	other.send(".\r\n")
	other.expect("250")

	first.send(".\r\n")
	first.expect("250")
	begin(second)
	second.send(".\r\n")
	second.expect("250")
}

func TestSubmissionReservesDeclaredSizeAtData(t *testing.T) {
	t.Parallel()
	b := NewBudget(1 << 20)
	r := startServer(t, func(c *setup) { c.Budget = b }, true)
	p := dialTLS(t, r)
	for range 3 {
		p.say("MAIL FROM:<a@example.com> SIZE=9999", "250", "RSET", "250")
	}
	p.say("MAIL FROM:<a@example.com> SIZE=9999", "250", "RCPT TO:<b@example.net>", "250")
	if got := b.Used(); got != 0 {
		t.Errorf("%d bytes reserved before DATA", got)
	}

	p.say("DATA", "354")
	if got, want := b.Used(), submissionCost*message.FirstBuffer(9999); got != want {
		t.Errorf("%d bytes reserved at DATA, want %d", got, want)
	}

	p.send("From: a@example.com\r\n\r\na\nb")
	eventually(t, "a refused message's memory is released before its end", func() bool { return b.Used() == 0 })
	p.send("\r\n.\r\n")
	p.expect("550")
}

func TestSubmissionReservesNothingForChunksToCome(t *testing.T) {
	t.Parallel()
	b := NewBudget(1 << 20)
	r := startServer(t, func(c *setup) { c.Budget = b }, true)
	p := dialTLS(t, r)
	p.say("MAIL FROM:<a@example.com> SIZE=9999", "250", "RCPT TO:<b@example.net>", "250")
	p.send("BDAT 21\r\nFrom: a@example.com\r\n")
	p.expect("250")
	if got, most := b.Used(), int64(submissionCost*4096); got == 0 || got > most {
		t.Errorf("%d bytes reserved after 21, want at most %d", got, most)
	}

	p.say("RSET", "250")
	if got := b.Used(); got != 0 {
		t.Errorf("%d bytes reserved after RSET", got)
	}
}

func TestSubmissionRefusesDataWithoutMemory(t *testing.T) {
	t.Parallel()
	b := NewBudget(30000)
	r := startServer(t, func(c *setup) { c.Budget = b }, true)
	p := dialTLS(t, r)
	if !b.Reserve(29000) {
		t.Fatal("nothing could be reserved")
	}
	p.say("MAIL FROM:<a@example.com> SIZE=9999", "250", "RCPT TO:<b@example.net>", "250", "DATA", "452 4.3.1")
	p.say("MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250")
	p.send("BDAT 21 LAST\r\nFrom: a@example.com\r\n")
	p.expect("452 4.3.1")

	b.Release(29000)
	p.say("MAIL FROM:<a@example.com> SIZE=9999", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")
	p.send("From: a@example.com\r\n\r\n.\r\n")
	p.expect("250")
	p.say("NOOP", "250")
	if got := b.Used(); got != 0 {
		t.Errorf("%d bytes reserved after the message", got)
	}
}

// TestPort25LeavesSubmissionAlone: whatever strangers hold, clients that may
// submit have a budget of their own.
func TestPort25LeavesSubmissionAlone(t *testing.T) {
	t.Parallel()
	own, theirs := NewBudget(1<<20), NewBudget(32000)
	reports := startServer(t, reportsWith(theirs), false)
	submission := startServer(t, func(c *setup) { c.Budget = own }, true)
	for i := 2; i < 6; i++ {
		p := dialFrom(t, reports, fmt.Sprintf("127.0.0.%d", i))
		p.say("EHLO mx.example.net", "250", "MAIL FROM:<>", "250", "RCPT TO:<x@bounces.example.com>", "250", "DATA", "354")
		p.send(strings.Repeat("0123456789\r\n", 300))
	}
	eventually(t, "strangers hold what they may", func() bool { return theirs.Used() >= 4*3600 })

	p := dialTLS(t, submission)
	p.say("MAIL FROM:<a@example.com> SIZE=9000", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")
	p.send("From: a@example.com\r\n\r\n.\r\n")
	p.expect("250")
}

func TestPort25BoundsCommandsWithoutMessage(t *testing.T) {
	t.Parallel()
	const most = maxCommands + reportRecipients
	r := startServer(t, func(c *setup) { c.Reports = c.Submit.(*submitter) }, false)
	p := dialFrom(t, r, "127.0.0.1")
	p.say("EHLO mx.example.net", "250")
	msg := func() {
		p.say("MAIL FROM:<>", "250", "RCPT TO:<x@bounces.example.com>", "250", "DATA", "354", "Subject: x\r\n\r\n.", "250")
	}
	for range most - 10 {
		p.say("NOOP", "250")
	}
	msg()
	for range most - 10 {
		p.say("RSET", "250")
	}
	msg()

	for n := 0; ; n++ {
		p.send("NOOP\r\n")
		if got := p.reply(); strings.HasPrefix(got, "421 4.7.0") {
			break
		}
		if n > most {
			t.Fatalf("%d commands without a message, and still there", n)
		}
	}
	p.check("closed")
}

// TestBudgetRefusesOnlyWhatIsTooMuch: a reservation that fails takes nothing
// from others, not even for a moment.
func TestBudgetRefusesOnlyWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	b := NewBudget(100)
	stop := make(chan struct{})
	var greedy sync.WaitGroup
	greedy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if b.Reserve(101) {
					t.Error("101 bytes of 100 were reserved")
				}
			}
		}
	})
	defer greedy.Wait()
	defer close(stop)

	for i := range 1_000_000 {
		if !b.Reserve(1) {
			t.Fatalf("attempt %d: no byte of 100 is left", i+1)
		}
		b.Release(1)
	}
}

// TestPort25KeepsAddressesAlone: what a stranger says beside a recipient's
// address is not counted, so it is not kept.
func TestPort25KeepsAddressesAlone(t *testing.T) {
	t.Parallel()
	ss := newTestSession(setup{Config: Config{Log: quiet}, Reports: &submitter{}})
	err := ss.Rcpt("x@bounces.example.com", &smtp.RcptOptions{
		Notify:                []smtp.DSNNotify{smtp.DSNNotifyFailure},
		OriginalRecipientType: smtp.DSNAddressTypeRFC822,
		OriginalRecipient:     strings.Repeat("x", 10000),
	})
	if err != nil {
		t.Fatal(err)
	}

	got := ss.mail.envelope.Recipients[0]
	if got.Original != "" || got.OriginalType != "" || got.Notify != nil {
		t.Errorf("kept %d bytes, %q and %v; want the address alone", len(got.Original), got.OriginalType, got.Notify)
	}
}

// TestBudgetBounds checks that the whole budget can be reserved, and no more.
func TestBudgetBounds(t *testing.T) {
	t.Parallel()
	b := NewBudget(10)
	if !b.Reserve(4) || !b.Reserve(6) || b.Reserve(1) || b.Used() != 10 {
		t.Errorf("%d of 10 bytes are reserved; want all, and none above", b.Used())
	}
	b.Release(6)
	if b.Reserve(7) || !b.Reserve(6) {
		t.Error("what was given back cannot be reserved, or more than that")
	}
	if none := NewBudget(0); !none.Reserve(1 << 60) {
		t.Error("a budget without a limit has one")
	}
	if one := NewBudget(1); !one.Reserve(1) || one.Reserve(1) {
		t.Error("a budget of one byte does not have one")
	}
}

// TestSourceHoldsItsShare checks the share of a source to the byte.
func TestSourceHoldsItsShare(t *testing.T) {
	t.Parallel()
	s := newTestServer(setup{Config: Config{Budget: NewBudget(40), Log: quiet}, Reports: &submitter{}})
	if !s.reserve(oneSource, 4) || !s.reserve(oneSource, 6) || s.reserve(oneSource, 1) {
		t.Errorf("%d bytes of 40 are held; want a quarter, and none above", s.held[oneSource])
	}
	for _, a := range []string{"192.0.2.9", "192.0.2.10", "192.0.2.11"} {
		if !s.reserve(netip.MustParseAddr(a), 10) {
			t.Errorf("%s has no quarter", a)
		}
	}
	s.release(oneSource, 6)
	if s.reserve(otherSource, 7) || s.held[otherSource] != 0 {
		t.Error("more than the budget was reserved, or a source's part without it")
	}
	if s.reserve(oneSource, 7) || !s.reserve(oneSource, 6) {
		t.Error("what was given back cannot be reserved, or more than that")
	}
	s.release(oneSource, 9)
	if got, ok := s.held[oneSource]; got != 1 || !ok {
		t.Errorf("%d bytes held, want 1", got)
	}
	s.release(oneSource, 1)
	if _, ok := s.held[oneSource]; ok {
		t.Error("a source that holds nothing is remembered")
	}
	if got := s.cfg.Budget.Used(); got != 30 {
		t.Errorf("%d bytes reserved, want those of three others", got)
	}
}

// TestSessionReservesOnce checks that a session reserves only what it does not hold.
func TestSessionReservesOnce(t *testing.T) {
	t.Parallel()
	b := NewBudget(100)
	ss := newTestSession(setup{Config: Config{Budget: b, Log: quiet}})
	for _, c := range []struct{ n, want int64 }{{10, 20}, {10, 20}, {5, 20}, {11, 22}, {50, 100}} {
		if err := ss.reserveBudget(c.n); err != nil || b.Used() != c.want || ss.held != c.want {
			t.Errorf("after %d bytes: %d reserved, %d held, %v; want %d", c.n, b.Used(), ss.held, err, c.want)
		}
	}
	err := ss.reserveBudget(51)
	const want = "452 4.3.1 Too many messages in flight, try again later"
	if got := reply.For(err).String(); err == nil || got != want {
		t.Errorf("got %v, want %s", err, want)
	}
	var fault *reply.Fault
	if !errors.As(err, &fault) || fault.Class != reply.Overloaded {
		t.Errorf("got %#v, want a fault of an overload", err)
	}
	ss.releaseBudget()
	ss.releaseBudget()
	if b.Used() != 0 || ss.held != 0 {
		t.Errorf("%d bytes reserved, %d held", b.Used(), ss.held)
	}
}

// TestBudgetIsExported checks the gauge.
func TestBudgetIsExported(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	b := NewBudget(100)
	b.Reserve(42)
	b.Register(reg, "postern_bytes", "Bytes in flight.")
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	f := families[0]
	if f.GetName() != "postern_bytes" || f.GetHelp() != "Bytes in flight." || f.GetMetric()[0].GetGauge().GetValue() != 42 {
		t.Errorf("got %v", f)
	}
}

// TestBudgetIsShared reserves and releases in many goroutines.
func TestBudgetIsShared(t *testing.T) {
	t.Parallel()
	b := NewBudget(0)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20_000 {
				b.Reserve(1)
			}
		})
	}
	all.Wait()
	if got := b.Used(); got != 160_000 {
		t.Errorf("%d bytes are reserved, want 160000", got)
	}
}
