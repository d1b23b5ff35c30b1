package admin

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"postern/dkim"
)

// NewBuildInfo returns a metric that is 1, with what this program was built from as its labels.
func NewBuildInfo() prometheus.Collector {
	b := ReadBuild()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "postern_build_info",
		Help: "1; the labels say what the program was built from.",
		ConstLabels: prometheus.Labels{
			"version":   b.Version,
			"commit":    b.Commit,
			"goversion": runtime.Version(),
			"rsa":       dkim.RSAImplementation(dkim.RSAAuto),
		},
	})
	g.Set(1)

	return g
}

// Build is what a program was built from: its version and the commit.
type Build struct {
	Version string
	Commit  string
}

// ReadBuild returns what this program was built from.
func ReadBuild() Build {
	out := Build{Version: "devel", Commit: "unknown"}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}

	if b.Main.Version != "" && b.Main.Version != "(devel)" {
		out.Version = b.Main.Version
	}
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" {
			out.Commit = s.Value
		}
	}

	return out
}
