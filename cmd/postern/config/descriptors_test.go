package config

import (
	"strings"
	"syscall"
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
		{"ACME", func(l *Loaded) { l.Certs.Mode = "acme" }, 1024, Connections{Submission: 392, Tracker: 392, PerSource: 196, Cut: true}, false},
		{"no admin", func(l *Loaded) { l.Admin.Listen = "" }, 1024, Connections{Submission: 424, Tracker: 424, PerSource: 200, Cut: true}, false},
		{"a source may have all", func(l *Loaded) { l.Submission.MaxConnectionsPerSource = 10000 }, 1024, Connections{Submission: 408, Tracker: 408, PerSource: 204, Cut: true}, false},
		{"the fewest that are of use", func(*Loaded) {}, 144 + 64 + 16, Connections{Submission: 8, Tracker: 8, PerSource: 4, Cut: true}, false},
		{"one fewer", func(*Loaded) {}, 144 + 64 + 15, Connections{Submission: 7, Tracker: 7, PerSource: 3, Cut: true}, true},
		{"too few for the tracker", func(l *Loaded) { l.Tracking.Web.MaxConnections = 500 }, 144 + 64 + 100, Connections{Submission: 95, Tracker: 4, PerSource: 47, Cut: true}, true},
		{"too few for submission", func(l *Loaded) { l.Submission.MaxConnections = 500 }, 144 + 64 + 100, Connections{Submission: 4, Tracker: 95, PerSource: 2, Cut: true}, true},
		{"few wanted, and cut", func(l *Loaded) { l.Submission.MaxConnections = 3; l.Tracking.Web.MaxConnections = 30 }, 144 + 64 + 32,
			Connections{Submission: 2, Tracker: 29, PerSource: 1, Cut: true}, true},
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

// TestTheLimitIsSpelledOut: an operator reads what was kept, what is left and
// what to raise it to.
func TestTheLimitIsSpelledOut(t *testing.T) {
	l := &Loaded{Config: Default(), File: "postern.toml", Role: All, binder: newBinder("postern.toml", noEnv)}
	l.Reports.BounceDomains = []string{"b.example"}
	l.binder.lines["submission"] = 7

	_, problems := l.Connections(1024)

	want := "postern.toml:7: submission.max_connections: warning: the limit of open files is 1024, and 208 are kept for disk, upstream and administration: " +
		"272 connections of submission, 272 of reports and 272 of the tracker at once, not 10000, 10000 and 10000; raise it to 30208 (LimitNOFILE=, ulimit -n)"
	if got := problems.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestDescriptorLimitIsRaised: a soft limit is raised to the hard one.
func TestDescriptorLimitIsRaised(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	lower := syscall.Rlimit{Cur: before.Max - 1, Max: before.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lower); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) }()

	for range 2 {
		got, err := DescriptorLimit()
		if err != nil || got != before.Max {
			t.Errorf("got %d, %v, want %d", got, err, before.Max)
		}
	}
	var after syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &after); err != nil || after != (syscall.Rlimit{Cur: before.Max, Max: before.Max}) {
		t.Errorf("got %+v, %v, want both limits at %d", after, err, before.Max)
	}
}
