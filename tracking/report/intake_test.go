package report

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/token"
)

// TestIntakeCounts: each mail is counted by its kind and by how its message was
// found, and told of in the log.
func TestIntakeCounts(t *testing.T) {
	keys := testKeys(t)
	id := keys.NewID(noon.Add(-time.Hour))
	verp := "bounce+" + id.String() + "@bounces.example"
	unsubscribe := keys.Seal(token.Token{Kind: token.ListUnsubscribe, Host: token.Mail, MessageID: id, Recipient: "reader@b.example"})
	link := token.URL("https://t.example", keys.Seal(token.Token{Kind: token.Open, Host: "t.example", MessageID: id, Recipient: "x@b.example", Unreported: true}))
	for _, c := range []struct {
		name, mail, to, labels, log string
		events, kept                int
		broken                      bool
	}{
		{name: "a bounce of ours", mail: string(bounceOf("Subject: x\n\nhi")), to: verp, labels: `bounce verp`, events: 1,
			log: "msg=report kind=bounce message_id=" + id.String() + " recipient=x@b.example class=10 "},
		{name: "a bounce that is not reported", mail: string(bounceOf("Subject: x\n\n" + link)), to: verp, labels: `bounce verp`,
			log: "msg=report kind=bounce"},
		{name: "a bounce of nothing known", mail: string(bounceOf("Subject: x\n\nhi")), to: "a@b.example", labels: `bounce none`, kept: 1,
			log: `msg="report without an event" kind=bounce message_id="" recipients=1`},
		{name: "a complaint about nothing known", mail: "From: fbl@a.example\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n",
			to: "a@b.example", labels: `complaint none`, kept: 1, log: "fbtype=abuse"},
		{name: "a vacation notice", mail: "From: bob@b.example\nAuto-Submitted: auto-replied\n\nhi", to: verp, labels: `auto-reply verp`,
			log: "kind=auto-reply message_id=" + id.String()},
		{name: "a vacation notice about nothing known", mail: "From: bob@b.example\nAuto-Submitted: auto-replied\n\nhi", to: "a@b.example",
			labels: `auto-reply none`, log: "kind=auto-reply"},
		{name: "plain mail", mail: "From: bob@b.example\n\nhi", to: verp, labels: `other verp`, kept: 1, log: "kind=other"},
		{name: "an unsubscription", mail: "From: bob@b.example\nSubject: " + unsubscribe + "\n\n", to: "unsubscribe@b.example",
			labels: `unsubscribe token`, events: 1, log: "kind=unsubscribe"},
		{name: "an unsubscription by a plus", mail: "From: bob@b.example\nSubject: x\n\n", to: "Unsubscribe+" + unsubscribe + "@b.example",
			labels: `unsubscribe token`, events: 1, log: "recipient=reader@b.example"},
		{name: "an automatic reply to unsubscribe@", mail: "From: bob@b.example\nAuto-Submitted: auto-replied\nSubject: " + unsubscribe + "\n\n",
			to: "unsubscribe@b.example", labels: `unsubscribe token`, events: 1, log: "kind=unsubscribe"},
		{name: "a bounce to unsubscribe@", mail: strings.Replace(string(bounceOf("Subject: x\n\nhi")), "From:", "Subject: "+unsubscribe+"\nFrom:", 1),
			to: "unsubscribe@b.example", labels: `bounce none`, kept: 1, log: "kind=bounce"},
		{name: "a spool that fails", mail: string(bounceOf("Subject: x\n\nhi")), to: verp, broken: true,
			log: `level=ERROR msg="report: cannot record event" kind=bounce message_id=` + id.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &memory{broken: c.broken}
			dir := filepath.Join(t.TempDir(), "kept")
			var log bytes.Buffer
			registry := prometheus.NewRegistry()
			in, err := NewIntake(Config{
				Finder:  &Finder{Keys: keys, Header: "X-Sp-Message-Id", Hosts: []string{"t.example"}},
				Events:  m,
				Keep:    dir,
				Now:     func() time.Time { return noon },
				Log:     slog.New(slog.NewTextHandler(&log, nil)),
				Metrics: registry,
			})
			if err != nil {
				t.Fatal(err)
			}

			err = in.Take(context.Background(), []string{c.to}, crlf(c.mail))
			if (err != nil) != c.broken || err != nil && !strings.HasPrefix(err.Error(), "report: disk on fire") {
				t.Errorf("got the error %v, want one: %v", err, c.broken)
			}
			if len(m.events) != c.events {
				t.Errorf("got %d events, want %d", len(m.events), c.events)
			}
			if names, _ := kept(t, dir); len(names) != c.kept {
				t.Errorf("kept %q, want %d", names, c.kept)
			}
			if got := counted(t, registry); got != c.labels {
				t.Errorf("counted %q, want %q", got, c.labels)
			}
			if !strings.Contains(log.String(), c.log) || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("got the log %q, want a line with %q", log.String(), c.log)
			}
		})
	}
}

// counted returns what the counter of reports has counted once.
func counted(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() != "postern_reports_total" || m.GetCounter().GetValue() != 1 {
				t.Errorf("%s is %v", f.GetName(), m)
			}
			out = append(out, labels["kind"]+" "+labels["found"])
		}
	}

	return strings.Join(out, ", ")
}

// TestIntakeWhoseFolderIsGone tells of it, and takes the mail.
func TestIntakeWhoseFolderIsGone(t *testing.T) {
	var log bytes.Buffer
	dir := filepath.Join(t.TempDir(), "kept")
	in, err := NewIntake(Config{
		Finder: &Finder{Keys: testKeys(t), Header: "X"}, Events: &memory{}, Keep: dir, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := in.Take(context.Background(), nil, crlf("From: bob@b.example\n\nhi")); err != nil {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(log.String(), "report: cannot keep mail") {
		t.Errorf("got the log %q", log.String())
	}
}

// TestIntakeTellsTheTime: without a clock it is the machine's.
func TestIntakeTellsTheTime(t *testing.T) {
	in, err := NewIntake(Config{})
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	if now := in.cfg.Now(); now.Before(before) || now.After(time.Now()) {
		t.Errorf("got %s, want the time of day", now)
	}
	if in.kept != nil {
		t.Error("mail is kept nowhere")
	}
}

// holding is a recorder that holds a mail until it is let go.
type holding struct {
	began chan struct{}
	let   chan struct{}
}

func (h *holding) Record(context.Context, ...*event.Event) error {
	h.began <- struct{}{}
	<-h.let

	return nil
}

// TestIntakeReadsFewAtOnce: where all places are taken a mail waits, no longer
// than its client does, and a place is given back.
func TestIntakeReadsFewAtOnce(t *testing.T) {
	keys := testKeys(t)
	h := &holding{began: make(chan struct{}), let: make(chan struct{})}
	in, err := NewIntake(Config{
		Finder: &Finder{Keys: keys, Header: "X"}, Events: h, Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := cap(in.reading); n < 1 || n > 8 {
		t.Fatalf("%d mails are read at once, want up to 8", n)
	}
	in.reading = make(chan struct{}, 2)

	verp := []string{"bounce+" + keys.NewID(noon).String() + "@b.example"}
	mail := bounceOf("Subject: x\n\nhi")
	done := make(chan error)
	for range 2 {
		go func() { done <- in.Take(context.Background(), verp, mail) }()
		<-h.began
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := in.Take(gone, verp, mail); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "report: ") {
		t.Errorf("got %v, want that the client is gone", err)
	}
	close(h.let)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	go func() { done <- in.Take(context.Background(), verp, mail) }()
	<-h.began
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(in.reading); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

// TestUnsubscribedEvent says what each field of the event is.
func TestUnsubscribedEvent(t *testing.T) {
	in := intake(t, testKeys(t), &memory{}, "")
	e := in.unsubscribed(token.Token{MessageID: someID, Recipient: "bob@b.example", Subaccount: 7})
	if e.Type != event.ListUnsubscribe || e.MessageID != someID.String() || !e.Timestamp.Equal(noon) || e.RcptTo != "bob@b.example" ||
		e.SubaccountID != 7 || e.DelvMethod != "esmtp" || e.ID != eventID(e, "") {
		t.Errorf("got %+v", e)
	}
}
