package gateway

import (
	"net/http/httptest"
	"testing"

	"postern/cmd/postern/demo/sink"
	"postern/relay/envelope"
	"postern/relay/upstream"
)

// TestDurationsSurviveReload: the answers of upstream and tracker before a
// reload and after it are in one histogram.
func TestDurationsSurviveReload(t *testing.T) {
	addr := startSink(t, sink.Config{})
	file := writeConfig(t, "")
	useUpstream(t, file, addr)
	g, log := startGateway(t, file)
	use := func() {
		partOf[*tracker](t, g).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		out := partOf[*mail](t, g).live.Load().pool.Send(t.Context(), &upstream.Transaction{
			From:      envelope.Address{Local: "a", Domain: "example.com"},
			Recipient: envelope.Recipient{Address: envelope.Address{Local: "r", Domain: "example.net"}},
			Message:   [][]byte{[]byte("From: a@example.com\r\n\r\nx\r\n")},
		})
		if !out.Accepted() {
			t.Fatalf("%+v", out)
		}
	}

	use()
	g.reload()
	use()

	got := values(t, g.reg)
	for _, name := range []string{
		`postern_web_duration_seconds{kind="other_path"}`,
		`postern_upstream_duration_seconds{upstream="` + addr + `"}`,
	} {
		if got[name] != 2 {
			t.Errorf("%s: got %v, want 2\n%s", name, got[name], log.take())
		}
		if _, ok := got[name+"{le=300}"]; !ok {
			t.Errorf("%s: got no bucket of 300 seconds, want those of postern_submission_duration_seconds", name)
		}
	}
}
