package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern/smtpd"
)

// UsersFile finds the users file that a configuration names, whatever else is
// wrong with it.
func UsersFile(file string) (string, error) {
	b := newBinder(file, func(string) string { return "" })
	c := Default()
	b.load(c)
	if len(b.lines) == 0 && len(b.problems) > 0 {
		return "", b.problems
	}
	return b.Path(c.Submission.UsersFile), nil
}

// SetPassword gives a user a password hash in the users file, which keeps
// every other line, or adds the user. The file is replaced in one step.
func SetPassword(file, name, hash string) (added bool, err error) {
	if err := smtpd.CheckName(name); err != nil {
		return false, fmt.Errorf("user name: %w", err)
	}

	lines, begin, end, err := findUser(file, name)
	if err != nil {
		return false, err
	}
	entry := fmt.Sprintf("password = %q", hash)
	if begin < 0 {
		if n := len(lines); n > 0 && lines[n-1] != "" {
			lines = append(lines, "")
		}
		return true, replaceLines(file, append(lines, "[[user]]", fmt.Sprintf("name     = %q", name), entry, ""))
	}
	for i := begin; i < end; i++ {
		key, _, ok := strings.Cut(lines[i], "=")
		if ok && strings.TrimSpace(key) == "password" {
			lines[i] = key + "= " + fmt.Sprintf("%q", hash)
			return false, replaceLines(file, lines)
		}
	}
	lines = append(lines[:begin+1], append([]string{entry}, lines[begin+1:]...)...)
	return false, replaceLines(file, lines)
}

// DeleteUser takes a user's table out of the users file.
func DeleteUser(file, name string) error {
	lines, begin, end, err := findUser(file, name)
	if err != nil {
		return err
	}
	if begin < 0 {
		return fmt.Errorf("%s: no user %q", file, name)
	}
	return replaceLines(file, append(lines[:begin], lines[end:]...))
}

// findUser gives the file's lines and the range of a user's table; begin is -1
// where there is none. Only a file that reads well is changed.
func findUser(file, name string) (lines []string, begin, end int, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, -1, -1, nil
	}
	if err != nil {
		return nil, 0, 0, err
	}
	b := newBinder(file, os.Getenv)
	var f struct {
		Users []User `toml:"user"`
	}
	b.bind(data, &f)
	if p := b.problems.Fatal(); len(p) > 0 {
		return nil, 0, 0, p
	}
	lines = strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	begin, end = -1, len(lines)
	for i, u := range f.Users {
		line := b.line(keyOf("user", i)) - 1
		switch {
		case begin >= 0:
			return lines, begin, line, nil
		case smtpd.FoldName(u.Name) == smtpd.FoldName(name):
			begin = line
		}
	}
	return lines, begin, end, nil
}

func replaceLines(file string, lines []string) error {
	mode := fs.FileMode(0o600)
	if i, err := os.Stat(file); err == nil {
		mode = i.Mode().Perm()
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".users-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(strings.TrimSuffix(strings.Join(lines, "\n"), "\n") + "\n")
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	return err
}
