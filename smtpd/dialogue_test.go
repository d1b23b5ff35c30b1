package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/certs"
	"postern/relay"
	"postern/relay/envelope"
	"postern/relay/reply"
	"postern/smtpd/auth"
	"postern/smtpd/wire"
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// submitter keeps what is submitted and answers as it is told.
type submitter struct {
	mu    sync.Mutex
	got   []*relay.Submission
	reply reply.Reply
	full  bool // no room for a report
}

// Takes implements ReportTaker.
func (s *submitter) Takes(domain string) bool {
	return envelope.MatchDomain("bounces.example.com", domain) || envelope.MatchDomain("*.fbl.example.com", domain)
}

// Take implements ReportTaker.
func (s *submitter) Take(_ context.Context, recipients []string, msg []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return errors.New("no room")
	}
	sub := &relay.Submission{Message: msg}
	for _, r := range recipients {
		a, err := envelope.Parse(r)
		if err != nil {
			return err
		}
		sub.Envelope.Recipients = append(sub.Envelope.Recipients, envelope.Recipient{Address: a})
	}
	s.got = append(s.got, sub)
	return nil
}

func (s *submitter) Submit(_ context.Context, sub *relay.Submission) reply.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, sub)
	return s.reply
}

func (s *submitter) Reject(_ context.Context, _ *relay.Submission, err error) reply.Reply {
	return reply.For(err)
}

func (s *submitter) submissions() []*relay.Submission {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*relay.Submission(nil), s.got...)
}

var testCert = sync.OnceValue(func() tls.Certificate {
	dir, err := os.MkdirTemp("", "postern-cert-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	c, err := certs.SelfSigned(dir, "mail.example.com", time.Now())
	if err != nil {
		panic(err)
	}
	return c
})

// running is a server under test.
type running struct {
	addr   string
	s      *Server
	submit *submitter
	stop   func()
}

func startServer(t *testing.T, change func(*setup), implicit bool) *running {
	t.Helper()
	users := newClients(t, auth.Rate{N: 3, Per: time.Minute}, clientList())
	sub := &submitter{reply: reply.Reply{Code: 250, Enhanced: reply.EnhancedCode{2, 0, 0}, Text: "taken by the test"}}
	c := setup{
		Config: Config{
			Hostname: "mail.example.com",
			TLS:      testTLS(),
			Log:      quiet,
			Limits:   Limits{MaxMessageSize: 10000, MaxRecipients: 3},
			Timeouts: Timeouts{Grace: time.Second},
		},
		Submission: Submission{
			Directory:  users,
			RequireTLS: true,
			Auth:       users,
			Submit:     sub,
		},
	}
	if change != nil {
		change(&c)
	}
	s := newTestServer(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveTest(ctx, s, l, implicit) }()
	r := &running{addr: l.Addr().String(), s: s, submit: sub}
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
			eventually(t, "a server that has stopped holds nothing", func() bool { return len(held(s)) == 0 })
		})
	}
	t.Cleanup(r.stop)
	return r
}

// TestDialogues plays each file of testdata/dialogues against a server:
//
//	-> TEXT      send the line
//	=> "TEXT"    send these bytes, as a Go string
//	<- TEXT      a reply whose last line begins so
//	<~ REGEXP    a reply that matches, its lines joined by \n
//	== tls       TLS handshake
//	== closed    the server has closed the connection
//	== login     EHLO, STARTTLS, EHLO, AUTH PLAIN as alice
//	== messages N    so many have been submitted
//	== message "TEXT"    the last one's bytes
//	== from PATH, == to PATH    the last one's envelope
//	!! option    changes the server; at the beginning of the file
func TestDialogues(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/dialogues/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			play(t, f)
		})
	}
}

// options are what `!!` lines may say.
var options = map[string]func(*setup){
	"plain":     func(c *setup) { c.RequireTLS = false },
	"no-tls":    func(c *setup) { c.TLS = nil },
	"normalise": func(c *setup) { c.NormaliseLF = true },
	"source": func(c *setup) {
		c.Sources = []SourceRule{{Network: netip.MustParsePrefix("127.0.0.0/8"), User: "nopass"}}
	},
	"elsewhere": func(c *setup) {
		c.Sources = []SourceRule{{Network: netip.MustParsePrefix("10.0.0.0/8"), User: "nopass"}}
	},
	"proxy": func(c *setup) {
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Sources = []SourceRule{{Network: netip.MustParsePrefix("192.0.2.0/24"), User: "nopass"}}
	},
	"reports": func(c *setup) {
		c.Reports, c.NormaliseLF = c.Submit.(*submitter), true
		c.Sources = []SourceRule{{Network: netip.MustParsePrefix("127.0.0.0/8"), User: "nopass"}} // has no meaning here
	},
	"reports-full": func(c *setup) {
		c.Submit.(*submitter).full = true
		c.Reports = c.Submit.(*submitter)
	},
	"upstream550": func(c *setup) {
		c.Submit.(*submitter).reply = reply.Reply{
			Code:     550,
			Enhanced: reply.EnhancedCode{5, 1, 1},
			Text:     "No such user\nhere",
		}
	},
}

type player struct {
	t    *testing.T
	at   string
	raw  net.Conn
	c    net.Conn
	r    *bufio.Reader
	serv *running
}

func play(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var change []func(*setup)
	implicit := false
	for _, line := range strings.Split(string(data), "\n") {
		if o, ok := strings.CutPrefix(line, "!! "); ok {
			if o == "implicit" {
				implicit = true
			} else if options[o] == nil {
				t.Fatalf("%s: no option %s", file, o)
			} else {
				change = append(change, options[o])
			}
		}
	}
	p := &player{t: t, serv: startServer(t, func(c *setup) {
		for _, f := range change {
			f(c)
		}
	}, implicit)}
	p.dial()
	defer p.raw.Close()
	if implicit {
		p.tls()
	}
	for i, line := range strings.Split(string(data), "\n") {
		p.at = fmt.Sprintf("%s:%d: %s", filepath.Base(file), i+1, line)
		verb, arg, _ := strings.Cut(line, " ")
		switch verb {
		case "", "#", "!!":
		case "->":
			p.send(arg + "\r\n")
		case "=>":
			s, err := strconv.Unquote(arg)
			if err != nil {
				t.Fatalf("%s: %v", p.at, err)
			}
			p.send(s)
		case "<-":
			if got := p.reply(); !strings.HasPrefix(got[strings.LastIndexByte(got, '\n')+1:], arg) {
				t.Fatalf("%s: got %q", p.at, got)
			}
		case "<~":
			if got := p.reply(); !regexp.MustCompile(arg).MatchString(got) {
				t.Fatalf("%s: got %q", p.at, got)
			}
		case "==":
			p.check(arg)
		default:
			if !strings.HasPrefix(line, "#") {
				t.Fatalf("%s: not a line of a dialogue", p.at)
			}
		}
	}
}

func (p *player) dial() {
	p.t.Helper()
	var err error
	if p.raw, err = net.Dial("tcp", p.serv.addr); err != nil {
		p.t.Fatal(err)
	}
	p.use(p.raw)
}

func (p *player) use(c net.Conn) { p.c, p.r = c, bufio.NewReader(c) }

func (p *player) send(s string) {
	if _, err := p.c.Write([]byte(s)); err != nil {
		p.t.Fatalf("%s: %v", p.at, err)
	}
}

func (p *player) reply() string {
	p.c.SetReadDeadline(time.Now().Add(10 * time.Second))
	var lines []string
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("%s: %v after %q", p.at, err, lines)
		}
		line = strings.TrimSuffix(line, "\r\n")
		lines = append(lines, line)
		if len(line) < 4 || line[3] == ' ' {
			return strings.Join(lines, "\n")
		}
	}
}

func (p *player) tls() {
	c := tls.Client(p.raw, &tls.Config{InsecureSkipVerify: true})
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if err := c.Handshake(); err != nil {
		p.t.Fatalf("%s: %v", p.at, err)
	}
	p.use(c)
}

func (p *player) check(arg string) {
	verb, arg, _ := strings.Cut(arg, " ")
	subs := p.serv.submit.submissions()
	var last *relay.Submission
	if len(subs) > 0 {
		last = subs[len(subs)-1]
	}
	var got, want string
	switch verb {
	case "tls":
		p.tls()
	case "closed":
		p.c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if b, err := p.r.ReadByte(); err == nil || wire.IsTimeout(err) {
			p.t.Fatalf("%s: read %q, %v", p.at, b, err)
		}
	case "login":
		for _, step := range []string{"", "EHLO client.example", "STARTTLS"} {
			if step != "" {
				p.send(step + "\r\n")
			}
			p.reply()
		}
		p.tls()
		p.send("EHLO client.example\r\n")
		p.reply()
		p.send("AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n") // \0alice\0secret
		if r := p.reply(); !strings.HasPrefix(r, "235 ") {
			p.t.Fatalf("%s: %s", p.at, r)
		}
	case "messages":
		got, want = strconv.Itoa(len(subs)), arg
	case "message":
		want, _ = strconv.Unquote(arg)
		if last != nil {
			got = string(last.Message)
		}
	case "from":
		want = arg
		if last != nil {
			got = last.Envelope.From.Path()
		}
	case "to":
		want = arg
		if last != nil {
			for _, r := range last.Envelope.Recipients {
				got += r.Address.Path()
			}
		}
	default:
		p.t.Fatalf("%s: no such check", p.at)
	}
	if got != want {
		p.t.Fatalf("%s: got %s", p.at, strconv.Quote(got))
	}
}
