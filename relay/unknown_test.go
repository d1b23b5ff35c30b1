package relay

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
)

func counted(t *testing.T, r *Relay, kind unknownKind) float64 {
	t.Helper()
	var m dto.Metric
	if err := r.unknown.WithLabelValues(string(kind)).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestUnknownNamesAreLoggedAndCounted(t *testing.T) {
	for _, c := range []struct {
		name   string
		header string
		pools  []Pool
		code   int
		want   []string // kind and name of each line
	}{
		{"known keys", `X-MSYS-API: {"Campaign_ID":"c","options":{"OPEN_tracking":true}}`, nil, 250, nil},
		{"key", `X-MSYS-API: {"campaigns_id":"c"}`, nil, 250, []string{"x_msys_api campaigns_id"}},
		{"option", `X-MSYS-API: {"options":{"sandbox":true,"ip_pool":""}}`, nil, 250, []string{"x_msys_api options.sandbox"}},
		{"control characters", `X-MSYS-API: {"a\u0001b":1}`, nil, 250, []string{"x_msys_api a?b"}},
		{"long", `X-MSYS-API: {"` + strings.Repeat("k", 900) + `":1}`, nil, 250, []string{"x_msys_api " + strings.Repeat("k", 64)}},
		{"pool", `X-MSYS-API: {"options":{"ip_pool":"p"}}`, nil, 250, []string{"ip_pool p"}},
		{"VirtualMTA", "X-Virtual-MTA: v", nil, 250, []string{"virtual_mta v"}},
		{"configured pool", `X-MSYS-API: {"options":{"ip_pool":"p"}}`, []Pool{{Name: "p"}}, 250, nil},
		{"another pool", `X-MSYS-API: {"options":{"ip_pool":"q"}}`, []Pool{{Name: "p"}}, 550, nil},
		{"nothing", "X-Other: x", nil, 250, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			b, lines := newLoggingBench(t, func(cfg *Config) {
				cfg.Headers.MsysAPI, cfg.Routes.Pools = true, c.pools
				cfg.Now = func() time.Time { return now }
			})
			for range 2 {
				if reply := b.relay.Submit(context.Background(), submission(c.header+"\r\n"+htmlMessage, "r")); reply.Code != c.code {
					t.Fatalf("got %v, want %d", reply, c.code)
				}
			}

			if got := lines.named(t); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q once a minute", got, c.want)
			}
			for _, kind := range unknownKinds {
				want := 0.0
				for _, w := range c.want {
					if strings.HasPrefix(w, string(kind)+" ") {
						want += 2
					}
				}
				if got := counted(t, b.relay, kind); got != want {
					t.Errorf("%s: %v counted, want %v", kind, got, want)
				}
			}

			now = now.Add(noteEvery)
			b.relay.Submit(context.Background(), submission(c.header+"\r\n"+htmlMessage, "r"))
			if got := lines.named(t); len(got) != 2*len(c.want) {
				t.Errorf("a minute later: got %q, want each again", got)
			}
		})
	}
}

// named returns kind and name of the lines about names.
func (l *logLines) named(t *testing.T) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(l.out.String()) {
		if _, rest, ok := strings.Cut(line, `"kind":"`); ok {
			kind, rest, _ := strings.Cut(rest, `"`)
			_, rest, _ = strings.Cut(rest, `"name":"`)
			name, _, _ := strings.Cut(rest, `"`)
			out = append(out, kind+" "+name)
		}
	}
	return out
}

// TestUnknownNamesAreBounded: made-up names fill neither memory nor log, and
// leave room for what else is to be said.
func TestUnknownNamesAreBounded(t *testing.T) {
	if fmt.Sprint(unknownKinds) != "[x_msys_api ip_pool virtual_mta]" {
		t.Errorf("kinds %q", unknownKinds)
	}

	b := newBench(t, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	for i := range 2 * maxNotes {
		b.relay.noteName(&Submission{}, unknownKey, fmt.Sprint(i), "x")
	}
	if got := len(b.relay.names.last); got != maxNotes {
		t.Errorf("%d names are remembered, want %d", got, maxNotes)
	}
	if !b.relay.notes.due("unsigned example.com", time.Now()) {
		t.Error("names keep unsigned mail out of the log")
	}
}
