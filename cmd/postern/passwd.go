package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"postern/cmd/postern/config"
	"postern/smtpd/auth"
)

type passwdCmd struct {
	configFile
	User   string `arg:"" optional:"" help:"User to add or change."`
	Delete bool   `help:"Remove the user."`
	List   bool   `help:"List the users."`
}

func (c *passwdCmd) Help() string {
	return "The password is read from the terminal, or from one line of standard input.\n" +
		"Example: postern passwd newsletter"
}

func (c *passwdCmd) Run(e *env) error {
	if c.User == "" && !c.List {
		return usageError{"name a user, or --list"}
	}

	file, err := c.usersFile()
	if err != nil {
		return err
	}

	editor := config.UsersEditor{File: file, OwnerLost: e.ownerLost(file)}
	switch {
	case c.List:
		return listUsers(e, file)
	case c.Delete:
		return c.remove(e, editor)
	}

	return c.set(e, editor)
}

func listUsers(e *env, file string) error {
	users, problems := config.LoadUsers(file, os.Getenv)
	for _, u := range users {
		note := ""
		if u.Password == "" {
			note = "\t(no password: cannot log in)"
		}
		fmt.Fprintf(e.stdout, "%s%s\n", u.Name, note)
	}

	if fatal := problems.Fatal(); len(fatal) > 0 {
		return fatal
	}
	return nil
}

func (c *passwdCmd) remove(e *env, editor config.UsersEditor) error {
	left, err := editor.Delete(c.User)
	if err != nil {
		return err
	}

	fmt.Fprintf(e.stdout, "%s: %s removed\n", editor.File, c.User)
	if left == 0 {
		fmt.Fprintln(e.stderr, "No user is left. A gateway that runs takes a list without users only on SIGHUP, "+
			"or at its next start.")
	}
	return nil
}

// set adds a user or changes its password.
func (c *passwdCmd) set(e *env, editor config.UsersEditor) error {
	if err := auth.CheckName(c.User); err != nil { // before the password is asked for
		return fmt.Errorf("the name %w", err)
	}

	password, err := readPassword(e)
	if err != nil {
		return err
	}
	if err := auth.CheckPassword(password); err != nil {
		return fmt.Errorf("password: %w", err)
	}

	hash, err := auth.HashPassword(password)
	if err != nil {
		return err
	}
	name, added, err := editor.SetPassword(c.User, hash)
	if err != nil {
		return err
	}

	what := "changed"
	if added {
		what = "added"
	}
	fmt.Fprintf(e.stdout, "%s: %s %s\n", editor.File, name, what)
	return nil
}

// ownerLost returns what says that a file that was replaced now belongs to
// who runs the command.
func (e *env) ownerLost(file string) func(uid, gid int, err error) {
	return func(uid, gid int, err error) {
		fmt.Fprintf(e.stderr, "%s: belonged to user %d, group %d, and that could not be kept (%v); "+
			"a gateway that runs as that user may not be able to read it: chown %d:%d %s\n",
			file, uid, gid, err, uid, gid, file)
	}
}

// readPassword asks twice on a terminal, else takes one line.
func readPassword(e *env) (string, error) {
	f, ok := e.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(e.stdin).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", err
		}

		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return "", errors.New("no password on standard input")
		}
		return line, nil
	}

	var got [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(e.stderr, prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(e.stderr)
		if err != nil {
			return "", err
		}
		got[i] = string(b)
	}

	switch {
	case got[0] == "":
		return "", errors.New("the password is empty")
	case got[0] != got[1]:
		return "", errors.New("the two differ")
	}
	return got[0], nil
}
