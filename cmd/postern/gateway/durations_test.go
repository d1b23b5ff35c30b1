package main

import (
	"context"
	"net"
	"net/http/httptest"
	"testing"

	"postern/cmd/postern/demo/sink"
	"postern/relay/envelope"
	"postern/relay/upstream"
)

// TestDurationsSurviveReload: the answers of upstream and tracker before a
// reload and after it are in one histogram.
func TestDurationsSurviveReload(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		sink.New(sink.Config{}).Serve(ctx, l)
	}()
	defer func() {
		cancel()
		<-done
	}()

	file := writeConfig(t, "", "")
	replaceIn(t, file, "127.0.0.1:1\"", l.Addr().String()+"\"")
	g, log := startGateway(t, file)
	use := func() {
		n := g.Live.Load()
		n.Web.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		out := n.Pool.Send(ctx, &upstream.Transaction{
			From:      envelope.Address{Local: "a", Domain: "example.com"},
			Recipient: envelope.Recipient{Address: envelope.Address{Local: "r", Domain: "example.net"}},
			Message:   [][]byte{[]byte("From: a@example.com\r\n\r\nx\r\n")},
		})
		if !out.Accepted() {
			t.Fatalf("%+v", out)
		}
	}

	use()
	g.Reload()
	use()

	got := values(t, g.Reg)
	for _, name := range []string{
		`postern_web_duration_seconds{kind="other_path"}`,
		`postern_upstream_duration_seconds{upstream="` + l.Addr().String() + `"}`,
	} {
		if got[name] != 2 {
			t.Errorf("%s: got %v, want 2\n%s", name, got[name], log.take())
		}
		if _, ok := got[name+"{le=300}"]; !ok {
			t.Errorf("%s: got no bucket of 300 seconds, want those of postern_submission_duration_seconds", name)
		}
	}
}
