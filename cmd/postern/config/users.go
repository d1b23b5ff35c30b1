package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"postern/smtpd/auth"
	"postern/tracking/spool/atomicfile"
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

// findUser returns the index of a user, or -1.
func findUser(users []User, name string) int {
	return slices.IndexFunc(users, func(u User) bool { return auth.FoldName(u.Name) == auth.FoldName(name) })
}

// UsersEditor changes one user of a users file and keeps every other byte of
// it. Editors of several processes wait for each other. The file is replaced
// in one step, where a symbolic link leads to, and keeps its mode and owner.
type UsersEditor struct {
	File string
	FS   atomicfile.FS // nil: the machine's own

	// OwnerLost, where set, is told that the owner could not be kept.
	OwnerLost func(uid, gid int, err error)
}

// errInline: there is no place for a line of a user's own.
var errInline = errors.New("the users are written in one line, user = [...]; " +
	"write each as a table, [[user]], to have them changed here")

// SetPassword gives a user a password hash, or adds the user. It returns the
// name as the file has it.
func (e UsersEditor) SetPassword(name, hash string) (written string, added bool, err error) {
	if err := auth.CheckName(name); err != nil {
		return "", false, fmt.Errorf("the name %w", err)
	}

	err = e.edit(func(f *usersText) error {
		i := findUser(f.users, name)
		if i < 0 {
			written, added = name, true
			return f.add(name, hash)
		}

		written = f.users[i].Name
		return f.setPassword(i, hash)
	})
	return written, added, err
}

// Delete removes a user's table, and returns how many users are left.
// Comments that stand before or after it stay.
func (e UsersEditor) Delete(name string) (left int, err error) {
	err = e.edit(func(f *usersText) error {
		i := findUser(f.users, name)
		if i < 0 {
			return fmt.Errorf("no user %q", name)
		}

		left = len(f.users) - 1
		return f.remove(i)
	})
	return left, err
}

// edit reads the file, has it changed, and replaces it where the new text
// reads as the change intends.
func (e UsersEditor) edit(change func(*usersText) error) error {
	unlock, err := atomicfile.Lock(e.File)
	if err != nil {
		return err
	}
	defer unlock()

	data, err := os.ReadFile(e.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := parseUsersText(e.File, data)
	if err != nil {
		return err
	}
	_, before := parseUsers(e.File, data, os.Getenv)

	if err := change(f); err != nil {
		return fmt.Errorf("%s: %w", e.File, err)
	}
	if err := f.verify(e.File, len(before.Fatal())); err != nil {
		return fmt.Errorf("%s: not changed: %w", e.File, err)
	}

	return atomicfile.Write(e.File, f.text, atomicfile.Options{
		FS:        e.FS,
		OwnerLost: e.OwnerLost,
	})
}

// usersText is a users file that is being changed: its text, and the users
// that this text is meant to hold.
type usersText struct {
	text   []byte
	users  []User
	places []userPlace // of the users, in the text as it was read
	inline bool        // user = [...]
}

// userPlace says where a user stands, in offsets. A user of an inline table
// has only a password's place.
type userPlace struct {
	begin, body, end           int // of the header's line, of what follows it, and of the last key's line
	passwordBegin, passwordEnd int // of the value; equal: there is none
}

// parseUsersText reads a file that is to be changed. What is wrong with single
// users is no error: the change may mend it.
func parseUsersText(file string, data []byte) (*usersText, error) {
	b := newBinder(file, os.Getenv)
	var t usersTable
	b.bind(data, &t)
	if p := b.problems.Fatal(); len(p) > 0 {
		return nil, p
	}

	f := &usersText{text: data, users: t.Users}
	f.locate()
	if len(f.places) != len(f.users) {
		return nil, fmt.Errorf("%s: the users are written in a way that cannot be changed here", file)
	}
	return f, nil
}

// locate finds the places of the users.
func (f *usersText) locate() {
	p := unstable.Parser{}
	p.Reset(f.text)

	for p.NextExpression() {
		e := p.Expression()
		key := keyPath(e)

		switch {
		case e.Kind == unstable.ArrayTable && key == "user":
			at := e.Child().Raw.Offset
			begin, end := f.lineAround(int(at), int(at))
			f.places = append(f.places, userPlace{begin: begin, body: end, end: end})

		case e.Kind == unstable.KeyValue && len(f.places) > 0 && !f.inline:
			f.places[len(f.places)-1].add(f, e, key)

		case e.Kind == unstable.KeyValue && key == "user":
			f.inline = true
			f.locateInline(e.Value())
		}
	}
}

// add notes one key of a user's table.
func (u *userPlace) add(f *usersText, kv *unstable.Node, key string) {
	raw := kv.Raw
	_, u.end = f.lineAround(int(raw.Offset), int(raw.Offset+raw.Length))

	if v := kv.Value(); key == "password" && v.Kind == unstable.String {
		u.passwordBegin = int(v.Raw.Offset)
		u.passwordEnd = int(v.Raw.Offset + v.Raw.Length)
	}
}

// locateInline finds the users of a list of inline tables.
func (f *usersText) locateInline(list *unstable.Node) {
	for tables := list.Children(); tables.Next(); {
		var u userPlace
		for keys := tables.Node().Children(); keys.Next(); {
			if kv := keys.Node(); kv.Kind == unstable.KeyValue {
				u.add(f, kv, keyPath(kv))
			}
		}
		f.places = append(f.places, u)
	}
}

// keyPath returns a key with its parts joined by dots; empty for what has none.
func keyPath(e *unstable.Node) string {
	if e.Kind != unstable.KeyValue && e.Kind != unstable.Table && e.Kind != unstable.ArrayTable {
		return ""
	}

	var parts []string
	for it := e.Key(); it.Next(); {
		if it.Node().Kind == unstable.Key {
			parts = append(parts, string(it.Node().Data))
		}
	}
	return strings.Join(parts, ".")
}

// lineAround returns where the line of the first offset begins, and where the
// line of the second ends, its line end included.
func (f *usersText) lineAround(first, last int) (begin, end int) {
	begin = bytes.LastIndexByte(f.text[:first], '\n') + 1

	if n := bytes.IndexByte(f.text[last:], '\n'); n >= 0 {
		return begin, last + n + 1
	}
	return begin, len(f.text)
}

// newline is the line end that the file has.
func (f *usersText) newline() string {
	if bytes.Contains(f.text, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// splice replaces a part of the text.
func (f *usersText) splice(begin, end int, with string) {
	f.text = slices.Concat(f.text[:begin], []byte(with), f.text[end:])
}

// endLine makes the text in front of an offset end with a line end, and
// returns the offset behind that.
func (f *usersText) endLine(at int) int {
	if at == 0 || f.text[at-1] == '\n' {
		return at
	}

	f.splice(at, at, f.newline())
	return at + len(f.newline())
}

func (f *usersText) setPassword(i int, hash string) error {
	f.users[i].Password = hash

	p := f.places[i]
	if p.passwordBegin < p.passwordEnd {
		f.splice(p.passwordBegin, p.passwordEnd, tomlString(hash))
		return nil
	}
	if f.inline {
		return errInline
	}

	at := f.endLine(p.body)
	f.splice(at, at, "password = "+tomlString(hash)+f.newline())
	return nil
}

func (f *usersText) add(name, hash string) error {
	if f.inline {
		return errInline
	}

	u := User{Name: name, Password: hash}
	u.setDefaults()
	f.users = append(f.users, u)

	end := f.endLine(len(f.text))
	nl := f.newline()
	lines := []string{"[[user]]", "name     = " + tomlString(name), "password = " + tomlString(hash), ""}
	if end > 0 && !bytes.HasSuffix(f.text, []byte(nl+nl)) {
		lines = slices.Insert(lines, 0, "")
	}
	f.splice(end, end, strings.Join(lines, nl))
	return nil
}

func (f *usersText) remove(i int) error {
	if f.inline {
		return errInline
	}
	f.users = slices.Delete(f.users, i, i+1)

	p := f.places[i]
	end := p.end
	nl := []byte(f.newline())
	if above := f.text[:p.begin]; len(above) == 0 || bytes.HasSuffix(above, slices.Concat(nl, nl)) {
		for bytes.HasPrefix(f.text[end:], nl) { // one empty line is enough
			end += len(nl)
		}
	}
	f.splice(p.begin, end, "")
	return nil
}

// tomlString writes a basic string. What it gets holds no control characters.
func tomlString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// verify reads the new text as LoadUsers would, and compares it with what was
// intended. What was wrong before may be wrong after, and nothing else.
func (f *usersText) verify(file string, faults int) error {
	after, problems := parseUsers(file, f.text, os.Getenv)
	if !reflect.DeepEqual(append([]User{}, after...), append([]User{}, f.users...)) {
		return errors.New("the new text would not read as intended; change the file by hand")
	}
	if p := problems.Fatal(); len(p) > faults {
		return p
	}

	return nil
}
