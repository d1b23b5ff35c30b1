package config

import (
	"os"
)

// Loaded is a configuration with its users.
type Loaded struct {
	*Config
	File  string
	Role  Role
	Users []User

	// UsersStamp is the state of the users file that Users were read from.
	UsersStamp FileStamp

	binder *binder // which knows the lines of the configuration
}

// Understood reports whether the file could be read as TOML at all. Where not,
// every value is a default, which says nothing of the gateway.
func (l *Loaded) Understood() bool {
	return len(l.binder.problems) == 0 || len(l.binder.lines) > 0
}

// Role is which part of a configuration a process runs. What others need is
// not checked: a tracker alone has neither the users file nor signing keys.
type Role string

// The roles of `serve --role`.
const (
	All     Role = "all"
	Tracker Role = "tracker"
)

// Load reads and checks a configuration file and the users file that it names.
// The problems hold all that is wrong with either.
func Load(file string, role Role) (*Loaded, Problems) {
	return load(file, role, os.Getenv)
}

// needsUsers reports whether the users file has to be there. With auth =
// "upstream" it holds settings, and may be missing.
func (l *Loaded) needsUsers() bool {
	if l.Submission.Auth == "upstream" && len(l.Submission.Sources) == 0 && l.Submission.DefaultUser == "" {
		_, err := os.Stat(l.Submission.UsersFile)
		return err == nil
	}
	return true
}

func load(file string, role Role, env func(string) string) (*Loaded, Problems) {
	b := newBinder(file, env)
	l := &Loaded{Config: Default(), File: file, Role: role}

	b.load(l.Config)
	if len(b.problems) == 0 || len(b.lines) > 0 {
		b.check(l.Config, role)
	}

	l.binder = b
	problems := b.problems.byLine()

	if role == All && len(b.lines) > 0 && l.needsUsers() {
		more := l.loadUsers()
		if l.Submission.UsersFile != "" {
			problems = append(problems, more...)
		}
	}

	if role == All && len(b.lines) > 0 {
		problems = append(problems, checkLogins(b, l)...)
	}

	return l, problems
}
