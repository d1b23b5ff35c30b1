package config

import (
	"fmt"
	"os"
	"slices"
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

// checkSources wants the users of source rules to be there.
func checkSources(b *binder, l *Loaded) (out Problems) {
	for i, s := range l.Submission.Sources {
		if s.RequireAuth || l.hasUser(s.User) {
			continue
		}

		key := keyOf("submission.source", i) + ".user"
		out = append(out, Problem{
			File:   b.file,
			Line:   b.line(key),
			Key:    key,
			Reason: fmt.Sprintf("no user %q in the users file; its settings would apply", s.User),
		})
	}

	return out
}

// hasUser reports whether the users file lists a user.
func (l *Loaded) hasUser(name string) bool {
	return findUser(l.Users, name) >= 0
}

// heldUser reports whether the users file holds a user to domains.
func (l *Loaded) heldUser(name string) bool {
	i := findUser(l.Users, name)

	return i >= 0 && heldToDomains(l.Users[i])
}

// checkLogins says what becomes of logins that the users file does not list,
// where the upstream decides about passwords.
func checkLogins(b *binder, l *Loaded) Problems {
	const key = "submission.default_user"
	s := &l.Submission
	p := Problem{File: b.file, Line: b.line(key), Key: key}
	switch {
	case s.DefaultUser != "" && s.Auth != "upstream":
		p.Reason = `has a meaning with submission.auth = "upstream" only`
	case s.DefaultUser != "" && !l.hasUser(s.DefaultUser):
		p.Reason = fmt.Sprintf("no user %q in the users file; its settings would apply", s.DefaultUser)
	case b.given("submission.users_file") && !l.needsUsers():
		p.Key, p.Line = "submission.users_file", b.line("submission.users_file")
		p.Warn = true
		p.Reason = fmt.Sprintf("%s is not there: no login has settings or limits", s.UsersFile)
	case s.DefaultUser == "" && s.Auth == "upstream" && slices.ContainsFunc(l.Users, heldToDomains):
		p.Warn = true
		p.Reason = "not set, and the users file holds users to from_domains: logins that it does not list are refused"
	case s.DefaultUser != "" && slices.ContainsFunc(l.Users, heldToDomains) && !l.heldUser(s.DefaultUser):
		p.Warn = true
		p.Reason = fmt.Sprintf("%s has no from_domains: where the upstream knows users by other spellings of their"+
			" names, these get out of theirs", s.DefaultUser)
	default:
		return nil
	}

	return Problems{p}
}

func heldToDomains(u User) bool { return len(u.FromDomains) > 0 }

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
