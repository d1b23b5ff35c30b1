package config

import (
	"path/filepath"
)

// Accounting is PowerMTA's accounting records.
type Accounting struct {
	Files       []string       `toml:"files"`
	Pipe        bool           `toml:"pipe"`
	PipeSocket  string         `toml:"pipe_socket"` // where `accounting --pipe` gets its files; empty: pipe.sock in state_dir
	PipeDir     string         `toml:"pipe_dir"`    // where it leaves them while there is no gateway; empty: nowhere
	PipeGroup   string         `toml:"pipe_group"`  // who may do either; empty: admin.socket_group
	BounceClass map[string]int `toml:"bounce_class"`
}

// checkGlobs warns of patterns that no file matches.
func (b *binder) checkGlobs(a Accounting) {
	for i, pattern := range a.Files {
		if found, err := filepath.Glob(pattern); err == nil && len(found) == 0 {
			b.warn(keyOf("accounting.files", i), "no file matches %s yet", pattern)
		}
	}
}
