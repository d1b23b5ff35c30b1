package main

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"postern/dkim"
)

// newBuildInfo is 1, with what this program was built from as its labels.
func newBuildInfo() prometheus.Collector {
	b := readBuild()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "postern_build_info",
		Help: "1; the labels say what the program was built from.",
		ConstLabels: prometheus.Labels{
			"version":   b.version,
			"commit":    b.commit,
			"goversion": runtime.Version(),
			"rsa":       dkim.RSAImplementation(dkim.RSAAuto),
		},
	})
	g.Set(1)

	return g
}

// build is what this program was built from.
type build struct{ version, commit string }

func readBuild() build {
	out := build{version: "devel", commit: "unknown"}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}

	if b.Main.Version != "" && b.Main.Version != "(devel)" {
		out.version = b.Main.Version
	}
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" {
			out.commit = s.Value
		}
	}

	return out
}
