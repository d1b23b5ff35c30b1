package gateway

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/postern/config"
)

// TestFilesAreTakenWhenTheyChange: the users file, in two looks.
func TestFilesAreTakenWhenTheyChange(t *testing.T) {
	file := writeConfig(t, "")
	g, _ := startGateway(t, file)
	writeFile(t, filepath.Dir(file), "users.toml", userEntry("new"))
	for range 2 {
		g.round(t.Context())
	}
	if _, ok := partOf[*userList](t, g).users.Lookup("new"); !ok {
		t.Error("the new user is not there")
	}
}

func TestUsersWatchWaitsUntilTheFileStandsStill(t *testing.T) {
	dir := t.TempDir()
	state := func(n int) config.FileStamp {
		return config.StampFile(writeFile(t, dir, fmt.Sprint(n), strings.Repeat("x", n)))
	}
	a, b, c, none := state(1), state(2), state(3), config.FileStamp{}

	type step struct {
		inUse, now config.FileStamp
		want       bool
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"nothing new", []step{{a, a, false}, {a, a, false}}},
		{"changed during the start", []step{{a, b, false}, {a, b, true}, {a, b, false}}},
		{"being written", []step{{a, none, false}, {a, b, false}, {a, c, false}, {a, c, true}, {c, c, false}}},
		{"refused, once", []step{{a, b, false}, {a, b, true}, {a, b, false}, {a, b, false}}},
		{"back again", []step{{a, b, false}, {a, a, false}, {a, b, false}, {a, b, true}}},
		{"removed", []step{{a, none, false}, {a, none, true}, {a, none, false}}},
		{"read by a reload", []step{{a, b, false}, {b, b, false}, {b, b, false}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &usersWatch{}
			for i, s := range test.steps {
				if got := w.look("users.toml", s.inUse, s.now); got != s.want {
					t.Errorf("look %d: got %v, want %v", i, got, s.want)
				}
			}
		})
	}
}

func TestTakeUsers(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string // in the log
		user       string // who is there afterwards
	}{
		{"another user", userEntry("local") + userEntry("new"), "users file taken", "new"},
		{"empty", "", "it holds no user", "app"},
		{"a comment alone", "# soon\n", "it holds no user", "app"},
		{"half a table", userEntry("local") + "[[user]]\nname = \"ne", "unterminated", "app"},
		{"without the user of a source", userEntry("new"), `no user \"local\" in the users file`, "app"},
		{"a name that may not be", userEntry("local") + userEntry("a\nb"), "control characters", "app"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, "[[submission.source]]\nnetwork = \"127.0.0.1\"\nrequire_auth = false\nuser = \"local\"\n")
			dir := filepath.Dir(file)
			writeFile(t, dir, "users.toml", userEntry("app")+userEntry("local"))
			g, log := startGateway(t, file)
			log.take()

			writeFile(t, dir, "users.toml", c.text)
			for range 3 {
				g.round(t.Context())
			}

			text := log.take()
			if strings.Count(text, "msg=") != 1 || !strings.Contains(text, c.want) {
				t.Errorf("got log\n%s\nwant one line with %q", text, c.want)
			}
			if _, ok := partOf[*userList](t, g).users.Lookup(c.user); !ok {
				t.Errorf("user %s is not there", c.user)
			}
		})
	}
}

// TestReloadTakesAnEmptyUsersFile: what an operator asks for is done.
func TestReloadTakesAnEmptyUsersFile(t *testing.T) {
	file := writeConfig(t, "")
	g, _ := startGateway(t, file)
	writeFile(t, filepath.Dir(file), "users.toml", "")

	g.reload()

	if _, ok := partOf[*userList](t, g).users.Lookup("app"); ok {
		t.Error("the user is still there after a reload")
	}
}

func TestTakeUsersLeavesAReloadAlone(t *testing.T) {
	file := writeConfig(t, "")
	g, _ := startGateway(t, file)
	old := g.current.Load().cfg
	writeFile(t, filepath.Dir(file), "others.toml", userEntry("new"))
	replaceIn(t, file, "[submission]\n", "[submission]\nusers_file = \"others.toml\"\n")
	g.reload()

	if n, err := partOf[*userList](t, g).reload(old); n != nil || err != nil {
		t.Errorf("got %v, %v, want nothing taken", n, err)
	}

	if _, ok := partOf[*userList](t, g).users.Lookup("new"); !ok {
		t.Error("the new file's user is gone")
	}
}

// TestAUsersFileThatChangesWhileItIsReadIsReadAgain, once it has stood still.
func TestAUsersFileThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	a := config.StampFile(writeFile(t, dir, "a", "x"))
	b := config.StampFile(writeFile(t, dir, "b", "xx"))
	w := &usersWatch{}
	look := func() bool { return w.look("users.toml", a, b) }
	if look() || !look() {
		t.Fatal("want it read at the second look")
	}
	if look() {
		t.Error("read again though nothing changed")
	}
	w.again()
	if look() || !look() {
		t.Error("want it read once more, when it has stood still")
	}
}

func TestUsersThatCannotBeTakenAreNot(t *testing.T) {
	file := writeConfig(t, "")
	g, _ := startGateway(t, file)
	l := g.current.Load().cfg
	n, err := partOf[*userList](t, g).reload(l)
	if err != nil || n == nil || n == l || g.current.Load().cfg != n {
		t.Fatalf("got %v, %v, want the users read anew and in use", n, err)
	}
	if n, err := partOf[*userList](t, g).reload(l); n != nil || err != nil {
		t.Errorf("of a configuration that is not in use: got %v, %v, want nothing", n, err)
	}
}
