package demo

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // for the preview
	msgdkim "github.com/emersion/go-msgauth/dkim"

	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

//go:embed demo.html
var DemoHTML []byte

// mailbox keeps the newest messages and events for the page. It is safe for
// concurrent use.
type Mailbox struct {
	mu       sync.Mutex
	Messages []ShownMessage
	Events   []ShownEvent
	next     int
	Changed  chan struct{} // closed and replaced at every change
}

type ShownMessage struct {
	N    int
	From string
	To   string
	At   time.Time
	Data []byte
}

type ShownEvent struct {
	N     int             `json:"n"`
	At    time.Time       `json:"at"`
	Name  string          `json:"name"`  // the public name
	Event json.RawMessage `json:"event"` // what the ingest service got
}

const (
	MaxShown     = 200
	maxShownSize = 10 << 20
)

func NewMailbox() *Mailbox { return &Mailbox{Changed: make(chan struct{})} }

func (b *Mailbox) bump() {
	close(b.Changed)
	b.Changed = make(chan struct{})
}

func (b *Mailbox) Deliver(m *sink.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.next++
	b.Messages = append(b.Messages, ShownMessage{
		N:    b.next,
		From: m.From,
		To:   m.To,
		At:   m.At,
		Data: m.Data[:min(len(m.Data), maxShownSize)],
	})

	b.Messages = b.Messages[max(0, len(b.Messages)-MaxShown):]
	b.bump()
}

func (b *Mailbox) Event(e ingestd.Stored) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.next++

	shown := ShownEvent{N: b.next, At: e.At, Event: json.RawMessage(e.Line)}
	if ev, err := event.Decode([]byte(e.Line)); err == nil {
		shown.Name = ev.Type.PublicName()
	}

	b.Events = append(b.Events, shown)
	b.Events = b.Events[max(0, len(b.Events)-MaxShown):]
	b.bump()
}

// demoPageHandler is the page: messages and events, newest first, by itself.
type demoPageHandler struct {
	box    *Mailbox
	record string
}

func NewDemoPage(b *Mailbox, record string) *demoPageHandler { return &demoPageHandler{b, record} }

func (p *demoPageHandler) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'self'; script-src 'unsafe-inline'; "+
			"style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'none'")
		w.Write(DemoHTML)
	})
	mux.HandleFunc("GET /demo/stream", p.stream)
	mux.HandleFunc("GET /demo/messages/{n}/source", p.source)
	mux.HandleFunc("GET /demo/messages/{n}/html", p.html)
}

type ListedMessage struct {
	N         int       `json:"n"`
	From      string    `json:"from"`
	To        string    `json:"to"`
	At        time.Time `json:"at"`
	Subject   string    `json:"subject"`
	MessageID string    `json:"message_id"`
	Job       string    `json:"job"`
	DKIM      string    `json:"dkim"`
	Size      int       `json:"size"`
}

// stream sends the lists as server-sent events, at once and at every change.
func (p *demoPageHandler) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	for {
		p.box.mu.Lock()
		changed := p.box.Changed
		messages := append([]ShownMessage(nil), p.box.Messages...)
		events := append([]ShownEvent(nil), p.box.Events...)
		p.box.mu.Unlock()

		listed := make([]ListedMessage, len(messages))
		for i := range messages {
			listed[i] = p.List(&messages[i])
		}

		data, err := json.Marshal(map[string]any{"messages": listed, "events": events})
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil || out.Flush() != nil {
			return
		}

		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (p *demoPageHandler) List(m *ShownMessage) ListedMessage {
	l := ListedMessage{N: m.N, From: m.From, To: m.To, At: m.At, Size: len(m.Data), DKIM: p.Verify(m.Data)}
	if e, err := message.Read(bytes.NewReader(m.Data)); e != nil && (err == nil || message.IsUnknownCharset(err)) {
		l.Subject, _ = e.Header.Text("Subject")
		l.MessageID, l.Job = e.Header.Get("X-Sp-Message-Id"), e.Header.Get("X-Job")
	}

	return l
}

// verify checks the signature against the record that the demo would publish.
func (p *demoPageHandler) Verify(data []byte) string {
	vs, err := msgdkim.VerifyWithOptions(bytes.NewReader(data), &msgdkim.VerifyOptions{
		LookupTXT: func(string) ([]string, error) { return []string{p.record}, nil }})

	switch {
	case err != nil:
		return err.Error()
	case len(vs) == 0:
		return "none"
	case vs[0].Err != nil:
		return vs[0].Err.Error()
	}
	return "pass"
}

func (p *demoPageHandler) find(r *http.Request) *ShownMessage {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		return nil
	}

	p.box.mu.Lock()
	defer p.box.mu.Unlock()
	for i := range p.box.Messages {
		if p.box.Messages[i].N == n {
			m := p.box.Messages[i]
			return &m
		}
	}
	return nil
}

func (p *demoPageHandler) source(w http.ResponseWriter, r *http.Request) {
	m := p.find(r)
	if m == nil {
		http.NotFound(w, r)
		return
	}

	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(m.Data)
}

// html shows the first HTML part as a mail program would: no script, no
// origin, pictures from where they are.
func (p *demoPageHandler) html(w http.ResponseWriter, r *http.Request) {
	m := p.find(r)
	if m == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Security-Policy", "sandbox allow-popups allow-popups-to-escape-sandbox; "+
		"default-src 'none'; img-src *; style-src 'unsafe-inline' *; font-src *")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")

	if body, ok := FirstHTML(m.Data); ok {
		io.WriteString(w, "<base target=\"_blank\">")
		w.Write(body)
		return
	}

	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "This message has no HTML part.\n")
}

func FirstHTML(data []byte) (body []byte, ok bool) {
	e, err := message.Read(bytes.NewReader(data))
	if e == nil || err != nil && !message.IsUnknownCharset(err) {
		return nil, false
	}

	_ = e.Walk(func(_ []int, part *message.Entity, _ error) error {
		if t, _, _ := part.Header.ContentType(); !ok && part != nil && strings.EqualFold(t, "text/html") {
			if b, err := io.ReadAll(io.LimitReader(part.Body, maxShownSize)); err == nil {
				body, ok = b, true
			}
		}
		return nil
	})

	return body, ok
}
