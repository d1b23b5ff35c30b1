package main

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
var demoHTML []byte

// mailbox keeps the newest messages and events for the page. It is safe for
// concurrent use.
type mailbox struct {
	mu       sync.Mutex
	messages []shownMessage
	events   []shownEvent
	next     int
	changed  chan struct{} // closed and replaced at every change
}

type shownMessage struct {
	N    int
	From string
	To   string
	At   time.Time
	Data []byte
}

type shownEvent struct {
	N     int             `json:"n"`
	At    time.Time       `json:"at"`
	Name  string          `json:"name"`  // the public name
	Event json.RawMessage `json:"event"` // what the ingest service got
}

const (
	maxShown     = 200
	maxShownSize = 10 << 20
)

func newMailbox() *mailbox { return &mailbox{changed: make(chan struct{})} }

func (b *mailbox) bump() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *mailbox) deliver(m *sink.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.next++
	b.messages = append(b.messages, shownMessage{
		N:    b.next,
		From: m.From,
		To:   m.To,
		At:   m.At,
		Data: m.Data[:min(len(m.Data), maxShownSize)],
	})

	b.messages = b.messages[max(0, len(b.messages)-maxShown):]
	b.bump()
}

func (b *mailbox) event(e ingestd.Stored) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.next++

	shown := shownEvent{N: b.next, At: e.At, Event: json.RawMessage(e.Line)}
	if ev, err := event.Decode([]byte(e.Line)); err == nil {
		shown.Name = ev.Type.PublicName()
	}

	b.events = append(b.events, shown)
	b.events = b.events[max(0, len(b.events)-maxShown):]
	b.bump()
}

// demoPageHandler is the page: messages and events, newest first, by itself.
type demoPageHandler struct {
	box    *mailbox
	record string
}

func newDemoPage(b *mailbox, record string) *demoPageHandler { return &demoPageHandler{b, record} }

func (p *demoPageHandler) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'self'; script-src 'unsafe-inline'; "+
			"style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'none'")
		w.Write(demoHTML)
	})
	mux.HandleFunc("GET /demo/stream", p.stream)
	mux.HandleFunc("GET /demo/messages/{n}/source", p.source)
	mux.HandleFunc("GET /demo/messages/{n}/html", p.html)
}

type listedMessage struct {
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
		changed := p.box.changed
		messages := append([]shownMessage(nil), p.box.messages...)
		events := append([]shownEvent(nil), p.box.events...)
		p.box.mu.Unlock()

		listed := make([]listedMessage, len(messages))
		for i := range messages {
			listed[i] = p.list(&messages[i])
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

func (p *demoPageHandler) list(m *shownMessage) listedMessage {
	l := listedMessage{N: m.N, From: m.From, To: m.To, At: m.At, Size: len(m.Data), DKIM: p.verify(m.Data)}
	if e, err := message.Read(bytes.NewReader(m.Data)); e != nil && (err == nil || message.IsUnknownCharset(err)) {
		l.Subject, _ = e.Header.Text("Subject")
		l.MessageID, l.Job = e.Header.Get("X-Sp-Message-Id"), e.Header.Get("X-Job")
	}

	return l
}

// verify checks the signature against the record that the demo would publish.
func (p *demoPageHandler) verify(data []byte) string {
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

func (p *demoPageHandler) find(r *http.Request) *shownMessage {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		return nil
	}

	p.box.mu.Lock()
	defer p.box.mu.Unlock()
	for i := range p.box.messages {
		if p.box.messages[i].N == n {
			m := p.box.messages[i]
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

	if body, ok := firstHTML(m.Data); ok {
		io.WriteString(w, "<base target=\"_blank\">")
		w.Write(body)
		return
	}

	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "This message has no HTML part.\n")
}

func firstHTML(data []byte) (body []byte, ok bool) {
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
