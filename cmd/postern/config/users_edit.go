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

// UsersEditor changes one user of a users file and keeps every other byte of it.
// Editors of several processes wait for each other. The file is replaced atomically and
// keeps its mode and owner; of a symbolic link it is the target that is replaced.
type UsersEditor struct {
	File string
	FS   atomicfile.FS // nil: the system's

	// OwnerLost is called if the owner could not be kept; it may be nil.
	OwnerLost func(uid, gid int, err error)
}

// errInline reports that users have no lines of their own.
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

// Delete removes a user's table, and returns how many users are left. Comments before
// and after the table are kept.
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

// edit reads the file, calls change, and replaces the file if the new text reads as
// intended.
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

// userPlace is where a user is in the text, in offsets. A user of an inline table has
// only the place of its password.
type userPlace struct {
	begin, body, end           int // of the header's line, of what follows it, and of the last key's line
	passwordBegin, passwordEnd int // of the value; equal: there is none
}

// parseUsersText reads a file that is to be changed. Problems of single users are not
// errors: the change may solve them.
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

// lineAround returns where the line of the first offset begins, and where the
// line of the second ends, its line end included.
func (f *usersText) lineAround(first, last int) (begin, end int) {
	begin = bytes.LastIndexByte(f.text[:first], '\n') + 1

	if n := bytes.IndexByte(f.text[last:], '\n'); n >= 0 {
		return begin, last + n + 1
	}
	return begin, len(f.text)
}

// newline returns the line end of the file.
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

// setPassword replaces the hash of a user, or adds it.
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

// add adds a table for a user.
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

// remove removes the table of a user.
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

// tomlString returns s as a basic string of TOML. s has no control characters.
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
