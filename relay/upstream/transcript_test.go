package upstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"postern/cmd/postern/demo/sink"
	"postern/relay/upstream"
)

// TestTranscript: at debug the log has the dialogue with the upstream, without
// passwords and messages.
func TestTranscript(t *testing.T) {
	u := start(t, sink.Config{Password: "gate:way"})
	var out bytes.Buffer
	p := upstream.New(upstream.Config{
		Hostname: "gateway.example",
		Addrs:    []string{u.addr},
		TLS:      upstream.TLSOff,
		Username: "gate",
		Password: "way",
		Log:      slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	defer p.Close()
	tr := transaction()
	tr.Session, tr.MessageID = "s.1", "m1"
	if o := p.Send(context.Background(), tr); !o.Accepted() {
		t.Fatalf("%+v", o)
	}

	var lines []string
	for raw := range strings.Lines(out.String()) {
		var line struct {
			Msg, Upstream, Connection, Session, Line string
			MessageID                                string `json:"message_id"`
		}
		if err := json.Unmarshal([]byte(raw), &line); err != nil {
			t.Fatal(err)
		}
		if line.Msg != "upstream dialogue" || line.Upstream != u.addr || line.Connection == "" {
			t.Errorf("got %s", raw)
		}
		if strings.HasPrefix(line.Line, "C: MAIL") && (line.Session != "s.1" || line.MessageID != "m1") {
			t.Errorf("got session %q and message id %q, want s.1 and m1", line.Session, line.MessageID)
		}
		lines = append(lines, line.Line)
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"^S: 220 ",
		"C: EHLO gateway.example\nS: 250-",
		`C: AUTH PLAIN \*\*\*` + "\nS: 235 ",
		"C: MAIL FROM:<a@example.com>.*\nC: RCPT TO:<\"odd one\"@example.net>.*\nC: DATA\nS: 250 .*\nS: 250 .*\nS: 354 ",
		`C: \(message of \d+ bytes\)` + "\nS: 250 .*$",
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, secret := range []string{"AGdhdGUAd2F5", "last line"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}
