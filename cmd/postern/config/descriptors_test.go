package config

import (
	"strings"
	"testing"
)

func TestConnectionsFitTheLimitOfOpenFiles(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(l *Loaded)
		limit  uint64
		want   Connections
		fatal  bool
	}{
		{"plenty", func(*Loaded) {}, 1 << 20, Connections{Submission: 10000, Tracker: 10000, PerSource: 200}, false},
		{"exactly", func(*Loaded) {}, 20000 + 64 + 144, Connections{Submission: 10000, Tracker: 10000, PerSource: 200}, false},
		{"one short", func(*Loaded) {}, 20000 + 64 + 143, Connections{Submission: 9999, Tracker: 9999, PerSource: 200, Cut: true}, false},
		{"a container", func(*Loaded) {}, 1024, Connections{Submission: 408, Tracker: 408, PerSource: 200, Cut: true}, false},
		{"with reports", func(l *Loaded) { l.Reports.BounceDomains = []string{"b.example"} }, 1024, Connections{Submission: 272, Reports: 272, Tracker: 272, PerSource: 136, Cut: true}, false},
		{"two upstreams", func(l *Loaded) { l.Relay.Upstream = []Addr{"a:1", "b:1"} }, 1024, Connections{Submission: 376, Tracker: 376, PerSource: 188, Cut: true}, false},
		{"a login upstream for each", func(l *Loaded) { l.Submission.Auth = "upstream" }, 1024, Connections{Submission: 272, Tracker: 272, PerSource: 136, Cut: true}, false},
		{"few wanted", func(l *Loaded) {
			l.Submission.MaxConnections = 20
			l.Tracking.Web.MaxConnections = 20
		}, 300, Connections{Submission: 20, Tracker: 20, PerSource: 200}, false},
		{"tracker alone", func(l *Loaded) { l.Role = Tracker }, 1024, Connections{Tracker: 880, PerSource: 1, Cut: true}, false},
		{"next to nothing", func(*Loaded) {}, 218, Connections{Submission: 5, Tracker: 5, PerSource: 2, Cut: true}, true},
		{"less than is kept", func(*Loaded) {}, 100, Connections{PerSource: 1, Cut: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &Loaded{Config: Default(), File: "postern.toml", Role: All, binder: newBinder("postern.toml", noEnv)}
			c.change(l)

			got, problems := l.Connections(c.limit)

			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if (len(problems) == 1) != c.want.Cut || (len(problems.Fatal()) == 1) != c.fatal {
				t.Errorf("got %v, want cut %v, fatal %v", problems, c.want.Cut, c.fatal)
			}
			for _, p := range problems {
				if !strings.Contains(p.Error(), "postern.toml:1: submission.max_connections: ") || !strings.Contains(p.Reason, "LimitNOFILE") {
					t.Errorf("got %v, want it to name the key and what to do", p)
				}
			}
		})
	}
}
