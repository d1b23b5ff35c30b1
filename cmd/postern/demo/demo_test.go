package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	msgdkim "github.com/emersion/go-msgauth/dkim"
	"go.uber.org/goleak"

	"postern/cmd/postern/config"
	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"
	"postern/dkim"
	"postern/smtpd/auth"
	"postern/tracking/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMailboxKeepsTheNewest(t *testing.T) {
	b := newMailbox()
	changed := b.changed
	at := time.Unix(1795500000, 0)
	b.deliver(&sink.Message{From: "a@example.com", To: "b@example.net", At: at, Data: []byte("x")})

	select {
	case <-changed:
	default:
		t.Error("whoever waits was not told")
	}
	if got := b.messages[0]; got.N != 1 || got.From != "a@example.com" || got.To != "b@example.net" || !got.At.Equal(at) || string(got.Data) != "x" {
		t.Errorf("got %+v", got)
	}

	click, err := (&event.Event{
		Type:           event.Click,
		ID:             "1",
		MessageID:      "m1",
		Timestamp:      event.Timestamp{Time: at},
		DelvMethod:     "esmtp",
		RcptTo:         "a@example.net",
		TargetLinkURL:  "https://example.com/",
		TargetLinkName: "x",
	}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	changed = b.changed
	b.event(ingestd.Stored{At: at, Line: click})
	select {
	case <-changed:
	default:
		t.Error("whoever waits was not told of an event")
	}
	if got := b.events[0]; got.N != 2 || got.Name != "click" || string(got.Event) != string(click) || !got.At.Equal(at) {
		t.Errorf("got %+v", got)
	}
	b.event(ingestd.Stored{Line: []byte("{}")})
	if got := b.events[1]; got.N != 3 || got.Name != "" {
		t.Errorf("what is no event: got %+v, want it without a name", got)
	}

	for range maxShown {
		b.deliver(&sink.Message{})
		b.event(ingestd.Stored{Line: []byte("{}")})
	}
	if len(b.messages) != 200 || len(b.events) != 200 || b.messages[0].N != 4 || b.events[199].N != 403 {
		t.Errorf("got %d messages from %d on, %d events up to %d, want the newest 200 of each", len(b.messages), b.messages[0].N, len(b.events), b.events[199].N)
	}
	b.deliver(&sink.Message{Data: make([]byte, 10<<20+1)})
	if got := len(b.messages[199].Data); got != 10<<20 {
		t.Errorf("a large message: got %d bytes, want 10 MiB", got)
	}
}

const demoMail = "From: a@example.com\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nX-Sp-Message-Id: id1\r\nX-Job: job1\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nplain\r\n" +
	"--x\r\nContent-Type: TEXT/html; charset=iso-8859-1\r\n\r\n<p>\xfc</p>\r\n--x\r\nContent-Type: text/html\r\n\r\nsecond\r\n--x--\r\n"

// demoServer is the page on a listener of its own.
func demoServer(t *testing.T, b *mailbox) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	newPage(b, "no record").register(mux)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestDemoPageServesMessages(t *testing.T) {
	b := newMailbox()
	b.deliver(&sink.Message{Data: []byte(demoMail)})
	b.deliver(&sink.Message{Data: []byte("From: a@example.com\r\n\r\nplain\r\n")})
	s := demoServer(t, b)
	const page = "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'none'"
	const preview = "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src *; style-src 'unsafe-inline' *; font-src *"

	for _, c := range []struct {
		path    string
		status  int
		typ     string
		policy  string
		nosniff string
		body    string
	}{
		{"/", http.StatusOK, "text/html; charset=utf-8", page, "", string(pageHTML)},
		{"/other", http.StatusNotFound, "", "", "", ""},
		{"/demo/messages/1/source", http.StatusOK, "text/plain; charset=utf-8", "", "nosniff", demoMail},
		{"/demo/messages/1/html", http.StatusOK, "text/html; charset=utf-8", preview, "nosniff", "<base target=\"_blank\"><p>ü</p>"},
		{"/demo/messages/2/html", http.StatusOK, "text/plain; charset=utf-8", preview, "nosniff", "This message has no HTML part.\n"},
		{"/demo/messages/3/source", http.StatusNotFound, "", "", "", ""},
		{"/demo/messages/3/html", http.StatusNotFound, "", "", "", ""},
		{"/demo/messages/x/source", http.StatusNotFound, "", "", "", ""},
		{"/demo/messages/x/html", http.StatusNotFound, "", "", "", ""},
	} {
		t.Run(c.path, func(t *testing.T) {
			r, err := http.Get(s.URL + c.path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != c.status {
				t.Fatalf("got %d %s, want %d", r.StatusCode, body, c.status)
			}
			if c.status != http.StatusOK {
				return
			}
			if r.Header.Get("Content-Type") != c.typ || r.Header.Get("Content-Security-Policy") != c.policy || r.Header.Get("X-Content-Type-Options") != c.nosniff {
				t.Errorf("got header %v, want %s, %q, %q", r.Header, c.typ, c.policy, c.nosniff)
			}
			if got := strings.TrimSpace(string(body)); got != strings.TrimSpace(c.body) {
				t.Errorf("got %q, want %q", got, c.body)
			}
		})
	}
	if len(pageHTML) < 1000 {
		t.Errorf("got a page of %d bytes", len(pageHTML))
	}
}

func TestFirstHTMLOfMessages(t *testing.T) {
	for _, c := range []struct {
		name, data, want string
		ok               bool
	}{
		{"HTML alone", "Content-Type: text/html\r\n\r\n<b>", "<b>", true},
		{"no HTML", "Content-Type: text/plain\r\n\r\n<b>", "", false},
		{"an unknown charset", "Content-Type: text/html; charset=x-none\r\n\r\n<b>", "<b>", true},
		{"an empty part", "Content-Type: text/html\r\n\r\n", "", true},
		{"no header", "\x00", "", false},
	} {
		body, ok := firstHTML([]byte(c.data))
		if string(body) != c.want || ok != c.ok {
			t.Errorf("%s: got %q, %v, want %q, %v", c.name, body, ok, c.want, c.ok)
		}
	}
}

func TestDemoPageListsMessages(t *testing.T) {
	p := newPage(newMailbox(), "")
	at := time.Unix(1795500000, 0)
	got := p.list(&shownMessage{N: 3, From: "f", To: "t", At: at, Data: []byte(demoMail)})
	want := listedMessage{N: 3, From: "f", To: "t", At: at, Subject: "grüße", MessageID: "id1", Job: "job1", DKIM: "none", Size: len(demoMail)}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := p.list(&shownMessage{Data: []byte("Subject: x\r\nX-Job: j\r\nContent-Type: text/plain; charset=x-none\r\n\r\n\xff")}); got.Subject != "x" || got.Job != "j" {
		t.Errorf("an unknown charset: got %+v, want its subject and job", got)
	}
	if got := p.list(&shownMessage{Data: []byte("\x00")}); got.Subject != "" || got.Size != 1 {
		t.Errorf("no message: got %+v", got)
	}
}

// sign puts a signature by the key of a file in front of a message.
func sign(t *testing.T, file, msg string) string {
	t.Helper()

	key, err := dkim.ReadKey("example.com", "s", file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = msgdkim.Sign(&out, strings.NewReader(msg), &msgdkim.SignOptions{
		Domain:   key.Domain,
		Selector: key.Selector,
		Signer:   key.Private,
	})
	if err != nil {
		t.Fatal(err)
	}

	return out.String()
}

func TestDemoPageVerifiesSignatures(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "dkim.pem")
	record, err := makeDKIMKey(file)
	if err != nil {
		t.Fatal(err)
	}
	signed := sign(t, file, "From: a@example.com\r\n\r\nx\r\n")
	for _, c := range []struct{ name, record, data, want string }{
		{"signed", record, signed, "pass"},
		{"not signed", record, "From: a@example.com\r\n\r\nx\r\n", "none"},
		{"changed", record, signed + "more\r\n", "body hash"},
		{"another key", "v=DKIM1; k=rsa; p=", signed, "key"},
		{"no message", record, "\x00", "header"},
	} {
		got := newPage(newMailbox(), c.record).verify([]byte(c.data))
		if got != c.want && (c.want == "pass" || c.want == "none" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestDemoStreamSendsEveryChange, the lists at once and then anew.
func TestDemoStreamSendsEveryChange(t *testing.T) {
	b := newMailbox()
	b.deliver(&sink.Message{From: "a@example.com", Data: []byte(demoMail)})
	s := demoServer(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/demo/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.Header.Get("Content-Type") != "text/event-stream" || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got header %v", r.Header)
	}

	in := bufio.NewReader(r.Body)
	next := func() (messages, events int) {
		t.Helper()
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		data, ok := strings.CutPrefix(line, "data: ")
		var got struct {
			Messages []listedMessage `json:"messages"`
			Events   []shownEvent    `json:"events"`
		}
		if err := json.Unmarshal([]byte(data), &got); err != nil || !ok {
			t.Fatalf("got %q: %v", line, err)
		}
		if empty, err := in.ReadString('\n'); err != nil || empty != "\n" {
			t.Fatalf("got %q, %v behind it, want an empty line", empty, err)
		}
		if len(got.Messages) > 0 && (got.Messages[0].From != "a@example.com" || got.Messages[0].Job != "job1") {
			t.Errorf("got %+v", got.Messages[0])
		}
		return len(got.Messages), len(got.Events)
	}
	if m, e := next(); m != 1 || e != 0 {
		t.Errorf("at once: got %d messages and %d events, want 1 and 0", m, e)
	}
	b.event(ingestd.Stored{Line: []byte("{}")})
	if m, e := next(); m != 1 || e != 1 {
		t.Errorf("after an event: got %d messages and %d events, want 1 and 1", m, e)
	}
	b.deliver(&sink.Message{})
	if m, e := next(); m != 2 || e != 1 {
		t.Errorf("after a message: got %d messages and %d events, want 2 and 1", m, e)
	}
}

func TestFreeAddrIsAnotherWhereOneIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()

	got := freeAddr(taken)
	if got == taken || !strings.HasPrefix(got, "127.0.0.1:") || strings.HasSuffix(got, ":0") {
		t.Errorf("got %s, want another port than %s", got, taken)
	}
	if again, err := net.Listen("tcp", got); err != nil {
		t.Errorf("%s: %v, want it free", got, err)
	} else {
		again.Close()
	}
}

// startOnce makes a demo's files, and returns them.
func startOnce(t *testing.T, dir string) files {
	t.Helper()

	dir, _, err := stateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := startSurroundings(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s.stop()

	return s.files
}

func loaded(t *testing.T, file string) *config.Loaded {
	t.Helper()

	l, problems := config.Load(file, config.All)
	if fatal := problems.Fatal(); len(fatal) > 0 {
		t.Fatal(fatal)
	}

	return l
}

// TestDemoFilesAreMadeOnce: what a person has there stays, but for the
// configuration.
func TestDemoFilesAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	d := startOnce(t, dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v, want mode 700", info, err)
	}

	l := loaded(t, d.config)
	if l.Hostname != "postern.localhost" || l.StateDir != filepath.Join(dir, "state") || l.ShutdownGrace.Std() != 5*time.Second ||
		l.Certs.Mode != "self-signed" || len(l.Relay.Upstream) != 1 || l.Signals.BatchAge.Std() != time.Second || !l.Signals.Enabled ||
		string(l.Signals.APIKey) != apiKey || !strings.HasSuffix(string(l.Signals.UploadURL), "/api/v1/ingest/events") ||
		!strings.HasPrefix(string(l.Submission.Listen[0]), "127.0.0.1:") || string(l.Tracking.URL) != "http://"+string(l.Tracking.Web.Listen[0]) ||
		l.DKIM.Keys[0].Domain != "example.com" || l.DKIM.Keys[0].Selector != "demo" {
		t.Errorf("got %+v", l.Config)
	}
	if len(l.Users) != 1 || l.Users[0].Name != "demo" || auth.CheckHash(l.Users[0].Password) != nil {
		t.Errorf("got users %+v, want demo", l.Users)
	}
	if !strings.HasPrefix(d.record, "v=DKIM1; ") {
		t.Errorf("got record %q", d.record)
	}
	before := map[string]string{}
	for _, name := range []string{"token.keys", "dkim.pem", "users.toml", "sample.eml", "postern.toml"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got mode %o, want 600", name, info.Mode().Perm())
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		before[name] = string(b)
	}
	if before["sample.eml"] != string(sampleText) {
		t.Errorf("got sample %q", before["sample.eml"])
	}

	startOnce(t, dir)
	for _, name := range []string{"token.keys", "dkim.pem", "users.toml"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != before[name] {
			t.Errorf("%s: changed, %v", name, err)
		}
	}
}

// TestDemoSaysWhatItCannotMake, and leaves nothing running.
func TestDemoSaysWhatItCannotMake(t *testing.T) {
	for _, name := range []string{"token.keys", "dkim.pem", "users.toml", "postern.toml", "sample.eml"} {
		dir := t.TempDir()
		if name != "dkim.pem" {
			if _, err := makeDKIMKey(filepath.Join(dir, "dkim.pem")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		s, err := startSurroundings(t.Context(), dir)
		if err == nil {
			s.stop()
		}
		// A folder that is there counts as what it should be, where it is not made.
		if made := name == "token.keys" || name == "users.toml"; !made && err == nil {
			t.Errorf("%s is a folder: got no error", name)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Run(t.Context(), Config{StateDir: file, Out: &out})
	if err == nil || !strings.Contains(err.Error(), "not a directory") || out.Len() > 0 {
		t.Errorf("a folder that is a file: got %v and %q, want that it is no folder", err, out.String())
	}
}

// TestDemoRuns starts the whole of it, sends the sample and looks at the page.
func TestDemoRuns(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := newUntil("Ctrl-C ends it.\n")
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Config{StateDir: dir, Out: out}) }()
	text := out.wait(t, ended)

	submission := string(loaded(t, filepath.Join(dir, "postern.toml")).Submission.Listen[0])
	page := regexp.MustCompile(`(?m)^  page        (http://127\.0\.0\.1:\d+)/$`).FindStringSubmatch(text)
	for _, want := range []string{
		"Postern demo is up.\n",
		"  submission  " + submission + ", STARTTLS, user demo, password demo\n",
		"  state       " + dir + "\n",
		"  swaks --server " + submission + " --tls --auth LOGIN --auth-user demo --auth-password demo --from news@example.com --to you@example.net ",
		"--mail-from news@example.com --mail-rcpt you@example.net --crlf --upload-file " + filepath.Join(dir, "sample.eml") + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant %q in it", text, want)
		}
	}
	if page == nil {
		t.Fatalf("got no page in\n%s", text)
	}
	if ca := regexp.MustCompile(`(?m)^  CA file     (\S+)$`).FindStringSubmatch(text); ca == nil {
		t.Error("got no CA file")
	} else if _, err := os.Stat(ca[1]); err != nil {
		t.Error(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(page[1] + "/")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Errorf("the page: got %d", r.StatusCode)
	}

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v at the end", err)
	}
	if got := strings.TrimPrefix(out.String(), text); got != "\nStopped.\n" {
		t.Errorf("got %q at the end", got)
	}
	log, err := os.ReadFile(filepath.Join(dir, "postern.log"))
	if err != nil || !strings.Contains(string(log), "postern is up") {
		t.Errorf("got log %q, %v, want it in the file", log, err)
	}
}

// TestDemoRemovesItsFolder that nobody asked it to keep, and logs where asked.
func TestDemoRemovesItsFolder(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := newUntil("Ctrl-C ends it.\n")
	log := newUntil("")
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Config{Out: out, Log: log}) }()
	out.wait(t, ended)

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := log.String(); !strings.Contains(got, "postern is up") {
		t.Errorf("got log %q, want it where it was asked for", got)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("got %v, %v left, want nothing", left, err)
	}
}

// until collects what is written, and tells when a text was.
type until struct {
	mu   sync.Mutex
	text string
	want string
	seen chan struct{}
}

func newUntil(want string) *until {
	return &until{want: want, seen: make(chan struct{})}
}

// Write implements io.Writer.
func (u *until) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()

	before := strings.Contains(u.text, u.want)
	u.text += string(b)
	if !before && strings.Contains(u.text, u.want) {
		close(u.seen)
	}

	return len(b), nil
}

func (u *until) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()

	return u.text
}

// wait returns what was written up to then, or fails where whoever writes has
// ended.
func (u *until) wait(t *testing.T, ended <-chan error) string {
	t.Helper()

	select {
	case <-u.seen:
	case err := <-ended:
		t.Fatalf("ended: %v", err)
	}

	return u.String()
}
