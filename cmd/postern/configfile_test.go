package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsDoNotGuessStateDir: a file that is not TOML says nothing of
// state_dir, and the default of that may be another gateway's.
func TestCommandsDoNotGuessStateDir(t *testing.T) {
	file := writeFile(t, t.TempDir(), "postern.toml", "state_dir = \"/somewhere\nhostname = ")
	for _, command := range [][]string{
		{"queue", "list"}, {"queue", "drop", "x"}, {"events", "stats"}, {"events", "batches"},
		{"events", "tail", "--no-follow"}, {"events", "replay", os.DevNull},
		{"accounting", "--print", os.DevNull}, {"accounting", "--pipe"},
	} {
		t.Run(strings.Join(command, " "), func(t *testing.T) {
			code, _, stderr := execute(t, "", append(command, "--config", file)...)

			if code != exitFailed || !strings.Contains(stderr, file+":1: ") {
				t.Errorf("got status %d and %q, want %d and what is wrong on line 1", code, stderr, exitFailed)
			}
		})
	}
}

// TestConfigurationIsFound asks each command that reads the configuration for
// what it says of the file.
func TestConfigurationIsFound(t *testing.T) {
	if _, err := os.Stat(defaultConfig); err == nil {
		t.Skipf("%s is there", defaultConfig)
	}
	dir := t.TempDir()
	good := writeConfig(t, "", "")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	records := writeFile(t, dir, "acct.csv", "")

	for _, c := range []struct {
		name, env string
		flag      []string
		want      string // of standard error; "": it is read
	}{
		{"default", "", nil, defaultConfig + ":1: no such file or directory (the default, for neither --config nor POSTERN_CONFIG names another file)"},
		{"variable", filepath.Join(dir, "env.toml"), nil, filepath.Join(dir, "env.toml") + ":1: no such file or directory (from POSTERN_CONFIG)"},
		{"relative variable", "env.toml", nil, filepath.Join(here, "env.toml") + ":1: no such file or directory (from POSTERN_CONFIG)"},
		{"flag", "", []string{"--config", filepath.Join(dir, "flag.toml")}, filepath.Join(dir, "flag.toml") + ":1: no such file or directory\n"},
		{"flag and variable", good, []string{"--config", filepath.Join(dir, "flag.toml")}, filepath.Join(dir, "flag.toml") + ":1: no such file or directory\n"},
		{"variable that is there", good, nil, ""},
		{"flag that is there, and a variable", filepath.Join(dir, "env.toml"), []string{"--config", good}, ""},
	} {
		for _, command := range [][]string{
			{"serve"}, {"check"}, {"passwd", "--list"}, {"queue", "list"}, {"queue", "show", "x"}, {"events", "stats"},
			{"events", "batches"}, {"events", "tail", "--no-follow"}, {"events", "replay", os.DevNull},
			{"accounting", "--print", records},
		} {
			if command[0] == "serve" && c.want == "" {
				continue // it would
			}
			if command[0] == "accounting" && c.name == "default" {
				continue // it needs none
			}
			t.Run(c.name+"/"+strings.Join(command[:min(2, len(command))], " "), func(t *testing.T) {
				t.Setenv(configEnv, c.env)

				_, _, stderr := execute(t, "", append(command, c.flag...)...)

				if c.want == "" && strings.Contains(stderr, "no such file") {
					t.Errorf("got %q, want the file read", stderr)
				}
				if !strings.Contains(stderr, c.want) {
					t.Errorf("got %q, want %q in it", stderr, c.want)
				}
			})
		}
	}
}
