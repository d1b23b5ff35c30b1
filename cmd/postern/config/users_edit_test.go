package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"postern/smtpd/auth"
)

var hash = func() string {
	h, err := auth.HashPassword("x")
	if err != nil {
		panic(err)
	}
	return h
}()

// usersFile writes a users file.
func usersFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSetPasswordKeepsEveryOtherByte(t *testing.T) {
	for _, c := range []struct{ name, user, before, after string }{
		{"new file", "a", "", "[[user]]\nname     = \"a\"\npassword = HASH\n"},
		{"only a comment", "a", "# ours", "# ours\n\n[[user]]\nname     = \"a\"\npassword = HASH\n"},
		{"another user", "b", "[[user]]\nname = \"a\"", "[[user]]\nname = \"a\"\n\n[[user]]\nname     = \"b\"\npassword = HASH\n"},
		{"quotes in the name", `c "d" \`, "", "[[user]]\nname     = \"c \\\"d\\\" \\\\\"\npassword = HASH\n"},
		{"beyond ASCII", "é\u00ad\ufeff", "", "[[user]]\nname     = \"é\u00ad\ufeff\"\npassword = HASH\n"},
		{"without a password", "a", "[[user]] # x\nname = \"a\" # first\njob = \"j\"\n", "[[user]] # x\npassword = HASH\nname = \"a\" # first\njob = \"j\"\n"},
		{"with a password", "a", "[[user]]\nname = \"a\"\npassword  =  HASH  # old\n# b\n", "[[user]]\nname = \"a\"\npassword  =  HASH  # old\n# b\n"},
		{"quoted key", "a", "[[user]]\nname = \"a\"\n\"password\" = ''\n", "[[user]]\nname = \"a\"\n\"password\" = HASH\n"},
		{"literal key", "a", "[[user]]\n'password' = \"\"\n'name' = 'a'\n", "[[user]]\n'password' = HASH\n'name' = 'a'\n"},
		{"multi-line value", "a", "[[user]]\nname = \"a\"\npassword = \"\"\"\n\"\"\"\njob = \"j\"\n", "[[user]]\nname = \"a\"\npassword = HASH\njob = \"j\"\n"},
		{"password in another value", "a", "[[user]]\nname = \"a\"\njob = \"\"\"\npassword = x\n\"\"\"\n", "[[user]]\npassword = HASH\nname = \"a\"\njob = \"\"\"\npassword = x\n\"\"\"\n"},
		{"inline table", "b", "user = [ { name = \"a\" }, { name = \"b\", password = \"\" } ]\n", "user = [ { name = \"a\" }, { name = \"b\", password = HASH } ]\n"},
		{"line ends of Windows", "b", "[[user]]\r\nname = \"a\"\r\n", "[[user]]\r\nname = \"a\"\r\n\r\n[[user]]\r\nname     = \"b\"\r\npassword = HASH\r\n"},
		{"case does not count", "APP", "[[user]]\nname = \"App\"\npassword = \"\"\n", "[[user]]\nname = \"App\"\npassword = HASH\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fill := strings.NewReplacer("HASH", `"`+hash+`"`)
			file := usersFile(t, fill.Replace(c.before))
			if c.before == "" {
				os.Remove(file)
			}

			if _, _, err := (UsersEditor{File: file}).SetPassword(c.user, hash); err != nil {
				t.Fatal(err)
			}

			if got, want := read(t, file), fill.Replace(c.after); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if _, problems := LoadUsers(file, noEnv); len(problems.Fatal()) > 0 {
				t.Errorf("got %v, want a file that reads", problems)
			}
		})
	}
}

func TestDeleteKeepsWhatBelongsToOthers(t *testing.T) {
	const list = "# the file\n\n# of a\n[[user]]\nname = \"a\"\n# in a\njob = \"j\"\nfrom_domains = [\"x.example\",\n  # more\n  \"y.example\",\n] # end\n\n" +
		"# of b\n[[user]]\nname = \"b\"\n\n# of c\n[[user]]\nname = \"c\"\n# last"
	for _, c := range []struct{ name, user, before, after string }{
		{"first", "a", list, "# the file\n\n# of a\n\n# of b\n[[user]]\nname = \"b\"\n\n# of c\n[[user]]\nname = \"c\"\n# last"},
		{"middle", "B", list, strings.Replace(list, "[[user]]\nname = \"b\"\n", "", 1)},
		{"last", "c", list, strings.Replace(list, "[[user]]\nname = \"c\"\n", "", 1)},
		{"the only one", "a", "[[user]]\nname = \"a\"\n", ""},
		{"empty lines", "b", "[[user]]\nname = \"a\"\n\n[[user]]\nname = \"b\"\n\n[[user]]\nname = \"c\"\n", "[[user]]\nname = \"a\"\n\n[[user]]\nname = \"c\"\n"},
		{"a name that may not be", "x\ny", "[[user]]\nname = \"x\\ny\"\n[[user]]\nname = \"a\"\n", "[[user]]\nname = \"a\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := usersFile(t, c.before)

			left, err := (UsersEditor{File: file}).Delete(c.user)
			if err != nil {
				t.Fatal(err)
			}

			if got := read(t, file); got != c.after {
				t.Errorf("got\n%s\nwant\n%s", got, c.after)
			}
			if want := strings.Count(c.after, "name = "); left != want {
				t.Errorf("got %d users left, want %d", left, want)
			}
		})
	}
}

func TestUsersEditorRefuses(t *testing.T) {
	for _, c := range []struct{ name, user, before, want string }{
		{"no name", "", "", "missing"},
		{"line end in the name", "a\nb", "", "control characters"},
		{"C1 in the name", "a\u0085b", "", "control characters"},
		{"DEL in the name", "a\x7f", "", "control characters"},
		{"NUL in the name", "a\x00", "", "control characters"},
		{"not UTF-8", "caf\xe9", "", "UTF-8"},
		{"reserved", "x:X-MSYS-SUBACCOUNT=1", "", "X-MSYS-SUBACCOUNT"},
		{"reserved, in another case", "x:x-msys-subaccount=1", "", "X-MSYS-SUBACCOUNT"},
		{"a file that does not read", "a", "[[user]]\nname = \"b\"\npassword = old\n", "users.toml:3"},
		{"a file that is not UTF-8", "a", "# \xe9\n[[user]]\nname = \"b\"\n", "users.toml:1"},
		{"new beside inline tables", "b", "user = [ { name = \"a\" } ]\n", "in one line"},
		{"new beside an empty list", "b", "user = []\n", "in one line"},
		{"password into an inline table", "a", "user = [ { name = \"a\" } ]\n", "in one line"},
		{"an unknown key", "a", "[[user]]\nname = \"a\"\npasswort = \"\"\n", "did you mean password?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := usersFile(t, c.before)

			_, _, err := (UsersEditor{File: file}).SetPassword(c.user, hash)

			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
			if got := read(t, file); got != c.before {
				t.Errorf("got\n%s\nwant it unchanged:\n%s", got, c.before)
			}
		})
	}
}

func TestLoadUsersHoldsNamesToTheEditorsRule(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"control", "[[user]]\nname = \"a\\u0085\"\n", "users.toml:2: user[0].name: must not hold control characters"},
		{"reserved", "[[user]]\nname = \"a:x-msys-subaccount=1\"\n", "must not hold :X-MSYS-SUBACCOUNT="},
		{"none", "[[user]]\njob = \"j\"\n", "user[0].name: missing"},
		{"twice", "[[user]]\nname = \"App\"\n[[user]]\nname = \"aPP\"\n", `users.toml:4: user[1].name: there is another user of this name in line 2, "aPP"; names are compared without case`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := LoadUsers(usersFile(t, c.text), noEnv)
			if got := problems.Fatal().Error(); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestDeleteRefuses what it cannot do, and changes nothing.
func TestDeleteRefuses(t *testing.T) {
	for _, c := range []struct{ name, user, before, want string }{
		{"an inline table", "a", "user = [ { name = \"a\" } ]\n", "in one line"},
		{"nobody", "b", "[[user]]\nname = \"a\"\n", `no user "b"`},
		{"no name", "", "[[user]]\nname = \"a\"\n", `no user ""`},
		{"a file that does not read", "a", "[[user]]\nname = a\n", "users.toml:2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := usersFile(t, c.before)

			_, err := (UsersEditor{File: file}).Delete(c.user)

			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want an error with %q and the file", err, c.want)
			}
			if got := read(t, file); got != c.before {
				t.Errorf("got\n%s\nwant it unchanged", got)
			}
		})
	}
}

// TestUsersEditorsLoseNothing has editors at work at the same time. The lock
// is one of open files, so that it holds between processes as it does here.
func TestUsersEditorsLoseNothing(t *testing.T) {
	file := usersFile(t, "# ours\n")
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, added, err := (UsersEditor{File: file}).SetPassword(fmt.Sprint("user", i), hash); err != nil || !added {
				t.Errorf("got added %v, error %v", added, err)
			}
		})
	}
	wg.Wait()

	users, problems := LoadUsers(file, noEnv)
	if len(users) != n || len(problems.Fatal()) > 0 {
		t.Errorf("got %d users and %v, want %d and nothing", len(users), problems.Fatal(), n)
	}
}

func TestUsersEditorKeepsLinkAndMode(t *testing.T) {
	file := usersFile(t, "[[user]]\nname = \"a\"\n")
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "users.toml")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}

	if _, _, err := (UsersEditor{File: link}).SetPassword("a", hash); err != nil {
		t.Fatal(err)
	}

	if got, err := os.Readlink(link); got != file {
		t.Errorf("got link to %q (%v), want %q", got, err, file)
	}
	if !strings.Contains(read(t, file), hash) {
		t.Error("got the old text in the file that the link leads to")
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o640 {
		t.Errorf("got mode %o, want 640", got)
	}
}

// FuzzUsersEditor changes a file of any content: it is refused and unchanged,
// or it reads as before but for the one user.
func FuzzUsersEditor(f *testing.F) {
	f.Add("# ours\n[[user]]\nname = \"a\" # first\njob = \"x\"\n\n# b\n[[user]]\nname = \"b\"\npassword = ''\n", "a", true)
	f.Add("user = [ { name = \"a\", password = \"\" } ]", "a", false)
	f.Add("[[ \"user\" ]]\n\"name\" = '''a'''\nfrom_domains = [\n\"x\", # y\n]\n[[user]]", "A", true)
	f.Add("", "c\"\\", false)
	f.Fuzz(func(t *testing.T, text, name string, remove bool) {
		file := usersFile(t, text)
		before, _ := LoadUsers(file, noEnv)
		e := UsersEditor{File: file}

		var err error
		if remove {
			_, err = e.Delete(name)
		} else {
			_, _, err = e.SetPassword(name, hash)
		}
		if err != nil {
			if got := read(t, file); got != text {
				t.Fatalf("got %q after %v, want it unchanged", got, err)
			}
			return
		}

		after, _ := LoadUsers(file, noEnv)
		others := after
		if !remove {
			others = without(after, name)
		}
		if want := without(before, name); len(others) != len(want) || len(want) > 0 && !reflect.DeepEqual(others, want) {
			t.Errorf("got others %+v, want %+v", others, want)
		}
		if i := findUser(after, name); !remove && (i < 0 || after[i].Password != hash) {
			t.Errorf("got %+v, want %q to have the password", after, name)
		}
	})
}

// without returns the users but for the first of a name.
func without(users []User, name string) []User {
	i := findUser(users, name)
	if i < 0 {
		return users
	}
	return append(append([]User{}, users[:i]...), users[i+1:]...)
}
