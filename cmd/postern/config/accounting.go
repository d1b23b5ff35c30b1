package config

import (
	"path/filepath"
	"postern/tracking/event"
)

// Accounting says where PowerMTA's accounting records come from.
type Accounting struct {
	Files []string `toml:"files"`
	Pipe  bool     `toml:"pipe"`

	// PipeSocket is where `postern accounting --pipe` gets its files; the default
	// is pipe.sock in state_dir. PipeDir is where it leaves them while no gateway
	// runs; there is no default. PipeGroup may use both; the default is
	// admin.socket_group.
	PipeSocket string `toml:"pipe_socket"`
	PipeDir    string `toml:"pipe_dir"`
	PipeGroup  string `toml:"pipe_group"`

	BounceClass map[string]int `toml:"bounce_class"`
}

// checkAccounting checks [accounting].
func (b *binder) checkAccounting(a *Accounting) {
	for i := range a.Files {
		a.Files[i] = b.Path(a.Files[i])
		b.checkGlob(keyOf("accounting.files", i), a.Files[i])
	}

	for name, class := range a.BounceClass {
		if !event.KnownBounceClass(class) {
			b.problem("accounting.bounce_class."+name, "%d is not a bounce class, which are 1, 10, 20 to 25, 30, 40, "+
				"50 to 54, 60, 70, 80, 90 and 100", class)
		}
	}
}

// checkGlob refuses a malformed pattern and warns of one that no file matches.
func (b *binder) checkGlob(key, pattern string) {
	found, err := filepath.Glob(pattern)
	switch {
	case err != nil:
		b.problem(key, "%v", err)
	case len(found) == 0:
		b.warn(key, "no file matches %s yet", pattern)
	}
}
