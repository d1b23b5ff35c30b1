package config

import (
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
)

// atStart says for each key, or for its table, whether it takes effect at the start
// only. The longest name decides.
var atStart = map[string]bool{
	"hostname":       true,
	"state_dir":      true,
	"memory_budget":  true,
	"shutdown_grace": true,

	"log":        false,
	"log.format": true,

	"submission":                 true,
	"submission.users_file":      false,
	"submission.received_header": false,

	"certs":             false,
	"certs.min_version": true,

	"relay":              false,
	"relay.retry_after":  true,
	"relay.bounce_after": true,

	"pool":        false,
	"virtual_mta": false,
	"dkim":        false,

	"tracking":                     false,
	"tracking.web.listen":          true,
	"tracking.web.tls":             true,
	"tracking.web.trusted_proxies": true,
	"tracking.web.max_connections": true,

	"reports":                true,
	"reports.bounce_domains": false,
	"reports.fbl_domains":    false,
	"reports.keep":           false,

	"accounting": true,
	"events":     true,

	"signals":                true,
	"signals.enable_signals": false,
	"signals.subaccount":     false,
	"signals.filter":         false,

	"admin": true,
}

// takesEffectAtStart reports whether a key keeps the value that it had at the start.
func takesEffectAtStart(key string) bool {
	for {
		if stays, ok := atStart[key]; ok {
			return stays
		}

		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return false
		}
		key = key[:i]
	}
}

// KeepFrom sets the keys of c that take effect at the start only to their values in
// running, so that c is what is in use after a reload. It returns the names of the keys
// that would have changed.
func (c *Config) KeepFrom(running *Config) []string {
	kept := keep("", reflect.ValueOf(c).Elem(), reflect.ValueOf(running).Elem())

	// Without a domain at the start there is no listener for reports, so reports
	// must not be directed to it.
	if !running.Reports.On() && c.Reports.On() {
		c.Reports = running.Reports
		kept = append(kept, "reports.bounce_domains", "reports.fbl_domains")
	}

	return append(kept, c.keepACME(running)...)
}

// keep is KeepFrom for one table.
func keep(prefix string, c, running reflect.Value) (kept []string) {
	for i := range c.NumField() {
		name := c.Type().Field(i).Tag.Get("toml")
		if name == "" {
			continue
		}

		key := join(prefix, name)
		now, old := c.Field(i), running.Field(i)
		if now.Kind() == reflect.Struct && hasKeys(now.Type()) {
			kept = append(kept, keep(key, now, old)...)
			continue
		}
		if takesEffectAtStart(key) && !reflect.DeepEqual(now.Interface(), old.Interface()) {
			now.Set(old)
			kept = append(kept, key)
		}
	}

	return kept
}

// hasKeys reports whether a struct is a table, as opposed to a value.
func hasKeys(t reflect.Type) bool {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("toml") != "" {
			return true
		}
	}

	return false
}

// keepACME keeps certs.mode and the keys of ACME, which is set up at the start, if the
// mode is or was "acme". The other modes can be changed.
func (c *Config) keepACME(running *Config) (kept []string) {
	if c.Certs.Mode != "acme" && running.Certs.Mode != "acme" {
		return nil
	}
	if c.Certs.Mode != running.Certs.Mode {
		c.Certs = running.Certs
		return []string{"certs.mode"}
	}

	now, old := reflect.ValueOf(&c.Certs).Elem(), reflect.ValueOf(&running.Certs).Elem()
	for i := range now.NumField() {
		name := now.Type().Field(i).Tag.Get("toml")
		if strings.HasPrefix(name, "acme_") && !reflect.DeepEqual(now.Field(i).Interface(), old.Field(i).Interface()) {
			now.Field(i).Set(old.Field(i))
			kept = append(kept, "certs."+name)
		}
	}
	if !slices.Equal(c.Names(), running.Names()) {
		kept = append(kept, "certs.acme_domains (the tracking domains are among them)")
	}

	return kept
}

// FileStamp identifies a state of a file; the zero FileStamp means that there is none.
type FileStamp struct {
	size, modified int64
	inode          uint64
}

// StampFile returns the present state of a file.
func StampFile(file string) FileStamp {
	info, err := os.Stat(file)
	if err != nil {
		return FileStamp{}
	}

	return FileStamp{
		size:     info.Size(),
		modified: info.ModTime().UnixNano(),
		inode:    inode(info),
	}
}

// WithUsers reads the users file again and returns the configuration with its users.
// The file is checked as by Load.
func (l *Loaded) WithUsers() (*Loaded, Problems) {
	n := *l
	problems := n.loadUsers()

	return &n, append(problems, checkLogins(l.binder, &n)...)
}

// loadUsers reads and checks the users file.
func (l *Loaded) loadUsers() Problems {
	l.UsersStamp = StampFile(l.Submission.UsersFile) // before it is read
	users, problems := LoadUsers(l.Submission.UsersFile, l.binder.env)
	l.Users = users

	problems = append(problems, checkSources(l.binder, l)...)
	problems = append(problems, checkHeldKeys(l.binder, l)...)

	return append(problems, checkUnsigned(l.binder, l)...)
}

// inode returns the inode of a file, 0 if the system has none.
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}

	return 0
}
