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
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // for the preview
	msgdkim "github.com/emersion/go-msgauth/dkim"
)

//go:embed demo.html
var pageHTML []byte

// Content-Security-Policy of the page, and of the messages that it frames: no
// script, no origin, pictures from wherever they are.
const (
	pagePolicy = "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; " +
		"frame-src 'self'; frame-ancestors 'none'"
	messagePolicy = "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; " +
		"img-src *; style-src 'unsafe-inline' *; font-src *"
)

// page shows messages and events, newest first, and updates itself.
type page struct {
	box    *mailbox
	record string // the value of the DKIM record
}

func newPage(b *mailbox, record string) *page {
	return &page{box: b, record: record}
}

func (p *page) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", p.index)
	mux.HandleFunc("GET /demo/stream", p.stream)
	mux.HandleFunc("GET /demo/messages/{n}/source", p.source)
	mux.HandleFunc("GET /demo/messages/{n}/html", p.html)
}

func (p *page) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write(pageHTML)
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
func (p *page) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)

	for {
		messages, events, changed := p.box.snapshot()
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

func (p *page) list(m *shownMessage) listedMessage {
	l := listedMessage{
		N:    m.N,
		From: m.From,
		To:   m.To,
		At:   m.At,
		Size: len(m.Data),
		DKIM: p.verify(m.Data),
	}
	if e, ok := parse(m.Data); ok {
		l.Subject, _ = e.Header.Text("Subject")
		l.MessageID = e.Header.Get("X-Sp-Message-Id")
		l.Job = e.Header.Get("X-Job")
	}

	return l
}

// parse reads a message as far as it can be read.
func parse(data []byte) (*message.Entity, bool) {
	e, err := message.Read(bytes.NewReader(data))
	return e, e != nil && (err == nil || message.IsUnknownCharset(err))
}

// verify checks the signature against the record that the demo would publish.
func (p *page) verify(data []byte) string {
	list, err := msgdkim.VerifyWithOptions(bytes.NewReader(data), &msgdkim.VerifyOptions{
		LookupTXT: func(string) ([]string, error) { return []string{p.record}, nil },
	})
	switch {
	case err != nil:
		return err.Error()
	case len(list) == 0:
		return "none"
	case list[0].Err != nil:
		return list[0].Err.Error()
	}

	return "pass"
}

// find returns the message that a request names; it answers those that name
// none.
func (p *page) find(w http.ResponseWriter, r *http.Request) (shownMessage, bool) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err == nil {
		if m, ok := p.box.message(n); ok {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			return m, true
		}
	}

	http.NotFound(w, r)
	return shownMessage{}, false
}

func (p *page) source(w http.ResponseWriter, r *http.Request) {
	m, ok := p.find(w, r)
	if !ok {
		return
	}

	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(m.Data)
}

// html shows the first HTML part as a mail program would.
func (p *page) html(w http.ResponseWriter, r *http.Request) {
	m, ok := p.find(w, r)
	if !ok {
		return
	}

	w.Header().Set("Content-Security-Policy", messagePolicy)
	body, ok := firstHTML(m.Data)
	if !ok {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "This message has no HTML part.\n")
		return
	}

	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<base target=\"_blank\">")
	_, _ = w.Write(body)
}

func firstHTML(data []byte) (body []byte, ok bool) {
	e, readable := parse(data)
	if !readable {
		return nil, false
	}

	_ = e.Walk(func(_ []int, part *message.Entity, _ error) error {
		if ok || part == nil {
			return nil
		}
		if t, _, _ := part.Header.ContentType(); !strings.EqualFold(t, "text/html") {
			return nil
		}

		b, err := io.ReadAll(io.LimitReader(part.Body, maxShownSize))
		if err == nil {
			body = b
			ok = true
		}
		return nil
	})

	return body, ok
}
