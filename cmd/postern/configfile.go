package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/alecthomas/kong"

	"postern/cmd/postern/config"
)

const (
	configEnv     = "POSTERN_CONFIG"
	defaultConfig = "/etc/postern/postern.toml"
)

// configFile is the flag by which a command is told its configuration file.
type configFile struct {
	Config string `type:"path" env:"POSTERN_CONFIG" default:"/etc/postern/postern.toml" help:"Configuration file." placeholder:"FILE"`
}

// file returns the file; a flag or variable that is empty names the default.
func (c configFile) file() string {
	if c.Config == "" {
		return defaultConfig
	}

	return c.Config
}

// read reads and checks the configuration.
func (c configFile) read(role config.Role) (*config.Loaded, config.Problems) {
	l, problems := config.Load(c.file(), role)
	if c.isUnreadable() {
		for i := range problems {
			problems[i].Reason += c.origin()
		}
	}

	return l, problems
}

// usersFile returns the users file that the configuration names.
func (c configFile) usersFile() (string, error) {
	file, err := config.UsersFile(c.file())
	var ps config.Problems
	if errors.As(err, &ps) && len(ps) > 0 && c.isUnreadable() {
		ps[0].Reason += c.origin()
	}

	return file, err
}

// isUnreadable reports whether nothing can be read of the file.
func (c configFile) isUnreadable() bool {
	f, err := os.Open(c.file())
	if err == nil {
		f.Close()
	}

	return err != nil
}

// isThere reports whether the file exists, readable or not.
func (c configFile) isThere() bool {
	_, err := os.Stat(c.file())

	return !errors.Is(err, fs.ErrNotExist)
}

// origin says, behind the reason why a file cannot be read, why it was this
// one, where the command line does not show it.
func (c configFile) origin() string {
	switch env := os.Getenv(configEnv); {
	case c.file() == defaultConfig && env == "":
		return " (the default, for neither --config nor " + configEnv + " names another file)"
	case env != "" && c.file() == kong.ExpandPath(env):
		return " (from " + configEnv + ")"
	}

	return ""
}
