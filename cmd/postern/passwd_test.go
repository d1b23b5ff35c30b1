package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/cmd/postern/config"
	"postern/tracking/token"
)

func TestPasswdSaysWhatItDid(t *testing.T) {
	file := writeConfig(t, "", "")
	users := filepath.Join(filepath.Dir(file), "users.toml")
	for _, c := range []struct {
		name           string
		stdin          string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"change", "other\n", []string{"APP"}, 0, users + ": app changed\n", ""},
		{"add", "other", []string{"new"}, 0, users + ": new added\n", ""},
		{"list", "", []string{"--list"}, 0, "app\nnew\n", ""},
		{"no password", "", []string{"new"}, exitFailed, "", "no password on standard input"},
		{"no user", "", nil, exitUsage, "", "name a user"},
		{"a name that may not be", "x\n", []string{"a\nb"}, exitFailed, "", "must not hold control characters"},
		{"reserved", "x\n", []string{"x:X-MSYS-SUBACCOUNT=1"}, exitFailed, "", "must not hold :X-MSYS-SUBACCOUNT="},
		{"delete nobody", "", []string{"--delete", "nobody"}, exitFailed, "", `no user "nobody"`},
		{"delete", "", []string{"--delete", "new"}, 0, users + ": new removed\n", ""},
		{"delete the last", "", []string{"--delete", "app"}, 0, users + ": app removed\n", "No user is left."},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := execute(t, c.stdin, append([]string{"passwd", "--config", file}, c.args...)...)

			if code != c.code || stdout != c.stdout {
				t.Errorf("got status %d and %q, want %d and %q", code, stdout, c.code, c.stdout)
			}
			if !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
				t.Errorf("got stderr %q, want it to hold %q", stderr, c.stderr)
			}
		})
	}
}

func TestOwnerLostIsSaid(t *testing.T) {
	var stderr strings.Builder
	e := &env{stderr: &stderr}

	e.ownerLost("/etc/postern/users.toml")(1000, 1001, os.ErrPermission)

	for _, want := range []string{"belonged to user 1000, group 1001", "permission denied", "chown 1000:1001 /etc/postern/users.toml"} {
		if got := stderr.String(); !strings.Contains(got, want) {
			t.Errorf("got %q, want it to hold %q", got, want)
		}
	}
}

// TestParallelCommandsLoseNothing runs commands as processes of their own.
func TestParallelCommandsLoseNothing(t *testing.T) {
	const n = 4
	file := writeConfig(t, "", "")
	dir := filepath.Dir(file)

	var wg sync.WaitGroup
	start := func(stdin string, args ...string) {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], args...)
			cmd.Env = append(os.Environ(), asMain+"=1")
			cmd.Stdin = strings.NewReader(stdin)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v: %s", args, err, out)
			}
		})
	}
	for i := range n {
		start("secret\n", "passwd", "--config", file, fmt.Sprint("user", i))
		start("", "token", "keygen", filepath.Join(dir, "token.keys"))
	}
	wg.Wait()

	users, problems := config.LoadUsers(filepath.Join(dir, "users.toml"), os.Getenv)
	if got, want := len(users), 1+n; got != want || len(problems.Fatal()) > 0 {
		t.Errorf("got %d users and %v, want %d and nothing", got, problems.Fatal(), want)
	}
	keys, err := os.ReadFile(filepath.Join(dir, "token.keys"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(keys), "\n")-strings.Count(string(keys), "#"), 1+n; got != want {
		t.Errorf("got %d keys, want %d:\n%s", got, want, keys)
	}
	if _, err := token.ReadKeys(filepath.Join(dir, "token.keys")); err != nil {
		t.Error(err)
	}
}
