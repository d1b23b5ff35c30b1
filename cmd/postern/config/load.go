package config

import (
	"os"
)

// Loaded is a configuration with its users. It is not changed after Load, and safe
// for concurrent reading.
type Loaded struct {
	*Config
	File  string
	Role  Role
	Users []User

	// UsersStamp is the state of the users file that Users were read from.
	UsersStamp FileStamp

	binder *binder // knows the lines of the keys
}

// Understood reports whether the file could be read as TOML at all. If not, every
// value is a default.
func (l *Loaded) Understood() bool {
	return len(l.binder.problems) == 0 || len(l.binder.lines) > 0
}

// Role is the part of a configuration that a process runs. What only other roles
// need is not checked: a tracker has neither the users file nor signing keys.
type Role string

// The roles of `serve --role`.
const (
	All     Role = "all"
	Tracker Role = "tracker"
)

// Load reads and checks a configuration file and the users file that it names. The
// problems are those of both; the configuration can be used if Problems.Fatal
// returns none.
func Load(file string, role Role) (*Loaded, Problems) {
	return load(file, role, os.Getenv)
}

// needsUsers reports whether the users file must exist. With auth = "upstream" it
// holds settings only, and may be missing.
func (l *Loaded) needsUsers() bool {
	if l.Submission.Auth == "upstream" && len(l.Submission.Sources) == 0 && l.Submission.DefaultUser == "" {
		_, err := os.Stat(l.Submission.UsersFile)

		return err == nil
	}

	return true
}

// load is Load with an environment.
func load(file string, role Role, env func(string) string) (*Loaded, Problems) {
	b := newBinder(file, env)
	l := &Loaded{
		Config: Default(),
		File:   file,
		Role:   role,
		binder: b,
	}

	b.load(l.Config)
	if l.Understood() {
		b.check(l.Config, role)
	}
	problems := b.problems.byLine()

	if role != All || len(b.lines) == 0 {
		return l, problems
	}

	if l.needsUsers() {
		more := l.loadUsers()
		if l.Submission.UsersFile != "" {
			problems = append(problems, more...)
		}
	}

	return l, append(problems, checkLogins(b, l)...)
}
