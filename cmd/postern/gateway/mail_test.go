package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
	"postern/relay"
	"postern/relay/envelope"
	"postern/relay/queue"
)

// TestUpstreamsThatWereAwayAreLookedAt: one that is back is used again.
func TestUpstreamsThatWereAwayAreLookedAt(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	addr := startSink(t, sink.Config{Script: func(phase, _ string) sink.Action {
		if phase == "connect" && away.Load() {
			return sink.Action{Reply: "421 4.3.2 away", Drop: true}
		}
		return sink.Action{}
	}})
	file := writeConfig(t, "")
	useUpstream(t, file, addr)
	g, _ := startGateway(t, file)
	m := partOf[*mail](t, g)
	if err := m.Reachable(t.Context()); err == nil {
		t.Error("away: got no error")
	}

	away.Store(false)
	m.checkUpstreams(t.Context())

	if err := m.Reachable(t.Context()); err != nil {
		t.Errorf("after a look: %v, want it reachable", err)
	}
}

// TestReadyNamesASpoolWithoutRoom: mail is not taken, whatever the upstream says.
func TestReadyNamesASpoolWithoutRoom(t *testing.T) {
	g, _ := startGateway(t, writeConfig(t, "[signals]\nmin_free_space = \"900TiB\"\n"))
	if _, err := g.acceptsMail(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "event spool: ") {
		t.Errorf("got %v, want the event spool named", err)
	}

	g, _ = startGateway(t, writeConfig(t, ""))
	m := partOf[*mail](t, g)
	for n := int64(1) << 60; n > 0; n /= 2 { // all the room that there is
		for {
			release, err := m.queue.Reserve(n)
			if err != nil {
				break
			}
			defer release()
		}
	}
	if _, err := m.ready(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "retry spool: ") {
		t.Errorf("got %v, want the retry spool named", err)
	}
}

// TestReportsAreTakenForTheirDomains of the configuration in use.
func TestReportsAreTakenForTheirDomains(t *testing.T) {
	file := writeConfig(t, "[reports]\nlisten = [\"127.0.0.1:0\"]\n"+
		"bounce_domains = [\"b.example\", \"*.w.example\"]\nfbl_domains = [\"f.example\"]\n")
	g, _ := startGateway(t, file)
	m := partOf[*mail](t, g)
	for domain, want := range map[string]bool{
		"b.example":     true,
		"B.EXAMPLE":     true,
		"x.w.example":   true,
		"w.example":     false,
		"f.example":     true,
		"other.example": false,
	} {
		if got := m.Takes(domain); got != want {
			t.Errorf("%s: got %v, want %v", domain, got, want)
		}
	}
	if err := m.Take(t.Context(), []string{"x@b.example"}, []byte(bounceMail)); err != nil {
		t.Errorf("a bounce: %v", err)
	}
}

func TestSourcesOfLoginsUpstream(t *testing.T) {
	addr := startSink(t, sink.Config{Password: "u:p"})
	file := writeConfig(t, "")
	useUpstream(t, file, addr)
	replaceIn(t, file, "[submission]\n", "[submission]\nauth = \"upstream\"\n")
	g, _ := startGateway(t, file)
	m := partOf[*mail](t, g)
	if got := m.authenticator(); got == nil || any(got) == any(m.users) {
		t.Error("got the users file, want the upstream asked")
	}

	sender, end, _, err := m.login(t.Context(), "u", "p")
	if err != nil || sender == nil || end == nil {
		t.Fatalf("got %v, %v, want a login", sender, err)
	}
	end()
	sender, end, reply, _ := m.login(t.Context(), "u", "wrong")
	if sender != nil || end != nil || reply.Code < 400 {
		t.Errorf("a wrong password: got %v, %+v, want the refusal and no sender", sender, reply)
	}
}

// TestTheRelayOfTheConfigurationInUseAnswers for the listeners and the queue.
func TestTheRelayOfTheConfigurationInUseAnswers(t *testing.T) {
	g, _ := startGateway(t, writeConfig(t, ""))
	m := partOf[*mail](t, g)
	tr := &queue.Transaction{
		ID:      "x",
		Created: time.Now(),
		From:    envelope.Address{Local: "s", Domain: "example.com"},
		Copies: []queue.Copy{{
			MessageID: g.current.Load().keys.NewID(time.Now()).String(),
			From:      envelope.Address{Local: "s", Domain: "example.com"},
			Recipient: envelope.Recipient{Address: envelope.Address{Local: "a", Domain: "example.net"}},
			Own:       [][]byte{nil, nil},
		}},
		Shared: [][]byte{[]byte("Subject: x\r\n\r\nbody\r\n")},
	}
	if v := m.Deliver(t.Context(), tr, 0, 1); !v.Away || v.Done || v.Failed {
		t.Errorf("deliver: got %+v, want that the upstream is away", v)
	}
	if about := m.GiveUp(t.Context(), tr, 0, 3, queue.Verdict{Failed: true, Reply: "550 5.1.1 no"}); len(about) != 1 {
		t.Errorf("give up: got %d messages about it, want one to the sender", len(about))
	}
	if r := m.Submit(t.Context(), &relay.Submission{}); r.Code < 400 {
		t.Errorf("an empty submission: got %+v, want it refused", r)
	}
	if r := m.Reject(t.Context(), &relay.Submission{}, errors.New("no header")); r.Code < 400 {
		t.Errorf("a message that is none: got %+v, want it refused", r)
	}
	if got := values(t, g.reg)["postern_submission_duration_seconds"]; got != 1 {
		t.Errorf("got %v durations, want 1", got)
	}
	if err := m.Reachable(t.Context()); err == nil {
		t.Error("reachable: got no error, want that the upstream is away")
	}
}

// TestReadyMeansThatMailIsTaken asks gateways whose upstream is away.
func TestReadyMeansThatMailIsTaken(t *testing.T) {
	for _, c := range []struct {
		name, queue string
		status      int
		body        string
	}{
		{"queued first", "always", http.StatusOK, "ready: mail is queued, and cannot be handed on: "},
		{"handed on at once", "partial", http.StatusServiceUnavailable, "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, "")
			replaceIn(t, file, "[relay]\n", fmt.Sprintf("[relay]\nqueue = %q\n", c.queue))
			g, _ := startGateway(t, file)
			ask := func() *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				g.admin.Open.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
				return w
			}

			if w := ask(); w.Code != http.StatusServiceUnavailable {
				t.Errorf("before the start: got %d %q, want 503", w.Code, w.Body)
			}
			g.admin.Ready.Store(true)
			if w := ask(); w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body, c.status, c.body)
			}
			g.health.Watch("a stuck part", stuckPart{}, time.Minute)
			if w := ask(); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "a stuck part") {
				t.Errorf("with a stuck part: got %d %q, want 503 and its name", w.Code, w.Body)
			}
		})
	}
}

// stuckPart is a part that has shown no sign of life for an hour.
type stuckPart struct{}

func (stuckPart) Alive() time.Time { return time.Now().Add(-time.Hour) }

// bounceMail is what a mail system says of a message that it could not deliver.
const bounceMail = "From: MAILER-DAEMON@mx.example.net\r\nTo: b@b.example\r\nSubject: failed\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n" +
	"--x\r\nContent-Type: text/plain\r\n\r\nsorry\r\n" +
	"--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n" +
	"Final-Recipient: rfc822; one@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n" +
	"Diagnostic-Code: smtp; 550 5.1.1 <no> such user\r\n\r\n" +
	"Final-Recipient: rfc822; two@example.net\r\nAction: failed\r\nStatus: 4.2.2\r\n" +
	"Diagnostic-Code: smtp; 452 4.2.2 mailbox full\r\n\r\n--x--\r\n"
