package upstream_test

import (
	"context"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"postern/cmd/postern/demo/sink"
	"postern/relay/upstream"
)

// TestDurationOfAnsweredMessages checks that the time to the reply to the final
// dot is measured, whatever the reply and the login, and nothing else.
func TestDurationOfAnsweredMessages(t *testing.T) {
	at := func(phase string, a sink.Action) func(string, string) sink.Action {
		return func(p, _ string) sink.Action {
			if p == phase {
				return a
			}
			return sink.Action{}
		}
	}
	buckets := []float64{1, 60, 300}

	for _, c := range []struct {
		name   string
		script func(string, string) sink.Action
		want   uint64 // for each transaction
	}{
		{"taken", nil, 1},
		{"refused after the final dot", at(".", sink.Action{Reply: "554 5.7.1 spam"}), 1},
		{"no answer to the final dot", at(".", sink.Action{Drop: true}), 0},
		{"refused at RCPT", at("RCPT", sink.Action{Reply: "550 5.1.1 unknown"}), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, sink.Config{Script: c.script, Password: "ann:secret"})
			reg := prometheus.NewRegistry()
			p := pool(t, upstream.Config{
				Addrs:           []string{s.addr},
				Username:        "ann",
				Password:        "secret",
				Metrics:         reg,
				DurationBuckets: buckets,
			})

			p.Send(context.Background(), transaction())
			l, reply, err := p.Login(context.Background(), "ann", "secret")
			if err != nil || reply.Code != 235 {
				t.Fatal(reply, err)
			}
			defer l.Close()
			l.Send(context.Background(), transaction())

			count, bounds := duration(t, reg, s.addr)
			if count != 2*c.want {
				t.Errorf("%d measured, want %d", count, 2*c.want)
			}
			if count > 0 && !slices.Equal(bounds, buckets) {
				t.Errorf("buckets %v, want %v", bounds, buckets)
			}
		})
	}
}

// duration returns how many transactions with an upstream were measured, and in
// which buckets.
func duration(t *testing.T, reg *prometheus.Registry, addr string) (count uint64, bounds []float64) {
	t.Helper()

	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}

	for _, f := range families {
		if f.GetName() != "postern_upstream_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); len(l) != 1 || l[0].GetName() != "upstream" || l[0].GetValue() != addr {
				t.Errorf("labels %v, want the upstream %s alone", l, addr)
			}
			count += m.GetHistogram().GetSampleCount()
			for _, b := range m.GetHistogram().GetBucket() {
				bounds = append(bounds, b.GetUpperBound())
			}
		}
	}

	return count, bounds
}
