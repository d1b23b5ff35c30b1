package config

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"postern/smtpd/auth"
)

// User is one user of the users file.
type User struct {
	Name        string   `toml:"name"`
	Password    string   `toml:"password"`
	VirtualMTA  string   `toml:"virtual_mta"`
	Job         string   `toml:"job"`
	JobPrefix   string   `toml:"job_prefix"`
	Subaccount  uint32   `toml:"subaccount"`
	FromDomains []string `toml:"from_domains"`
	Tracking    bool     `toml:"tracking"`
	DKIMKey     string   `toml:"dkim_key"` // signs instead of the keys of the From domain
}

func (u *User) setDefaults() { u.Tracking = true }

// usersTable is the content of the users file.
type usersTable struct {
	Users []User `toml:"user"`
}

// LoadUsers reads a users file.
func LoadUsers(file string, env func(string) string) ([]User, Problems) {
	b := newBinder(file, env)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		b.problem("", "there is no users file yet; `postern passwd --config FILE NAME` makes it, with a first user")
		return nil, b.problems
	}
	if err != nil {
		b.problem("", "%v", errors.Unwrap(err))
		return nil, b.problems
	}

	b.warnReadable("", file, "the users' password hashes")
	users, problems := parseUsers(file, data, env)

	return users, append(b.problems, problems...)
}

// parseUsers reads the text of a users file.
func parseUsers(file string, data []byte, env func(string) string) ([]User, Problems) {
	b := newBinder(file, env)
	var f usersTable
	b.bind(data, &f)

	seen := map[string]int{} // folded names to lines
	for i, u := range f.Users {
		key := keyOf("user", i)
		b.claimUser(key+".name", u.Name, seen)
		b.checkUser(key, u)

		if len(f.Users) > 1 && len(u.FromDomains) == 0 {
			b.warn(key+".from_domains", "%s may send as anybody, and gets every signature of domains "+
				"that no other user is held to; name the domains it may send from", u.Name)
		}
	}

	return f.Users, b.problems
}

// claimUser refuses a name that cannot be one, and one that another user has;
// seen are the lines of the users before it, by folded name.
func (b *binder) claimUser(key, name string, seen map[string]int) {
	if err := auth.CheckName(name); err != nil {
		b.problem(key, "%v", err)
		return
	}

	folded := auth.FoldName(name)
	if line, twice := seen[folded]; twice {
		b.problem(key, "there is another user of this name in line %d, %q; "+
			"names are compared without case", line, name)
		return
	}
	seen[folded] = b.line(key)
}

// checkUser checks the password and the domains of a user.
func (b *binder) checkUser(key string, u User) {
	if u.Password != "" {
		if err := auth.CheckHash(u.Password); err != nil {
			b.problem(key+".password", "%v", err)
		}
	}

	for j, pattern := range u.FromDomains {
		if !isDomainPattern(pattern) {
			b.problem(keyOf(key+".from_domains", j), `%q is not a domain; write for example "example.com", `+
				`"*.example.com" for what is below, or "*" for any`, pattern)
		}
	}
}

// UsersFile returns the path of the users file that a configuration names,
// whatever else is wrong with it.
func UsersFile(file string) (string, error) {
	b := newBinder(file, func(string) string { return "" })
	c := Default()
	b.load(c)
	if len(b.lines) == 0 && len(b.problems) > 0 {
		return "", b.problems
	}

	return b.Path(c.Submission.UsersFile), nil
}

// findUser returns the index of a user, or -1.
func findUser(users []User, name string) int {
	return slices.IndexFunc(users, func(u User) bool { return auth.FoldName(u.Name) == auth.FoldName(name) })
}

// hasUser reports whether the users file lists a user.
func (l *Loaded) hasUser(name string) bool {
	return findUser(l.Users, name) >= 0
}

// heldUser reports whether a user of the users file is held to domains.
func (l *Loaded) heldUser(name string) bool {
	i := findUser(l.Users, name)

	return i >= 0 && heldToDomains(l.Users[i])
}

// heldToDomains reports whether a user may send from certain domains only.
func heldToDomains(u User) bool { return len(u.FromDomains) > 0 }
