package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name    string
		profile string
		line    string
		enough  bool
	}{
		{"enough", "mode: atomic\npostern/relay/a.go:1.1,2.2 8 1\npostern/relay/a.go:3.1,4.2 2 0\n", " 80.0 %  relay\n", true},
		{"too little", "postern/relay/a.go:1.1,2.2 79 1\npostern/relay/a.go:3.1,4.2 21 0\n", " 79.0 %  all, want 80 %\n", false},
		{"commands have a limit of their own", "postern/cmd/postern/a.go:1.1,2.2 70 3\npostern/cmd/postern/b/b.go:3.1,4.2 30 0\n" +
			"postern/dkim/a.go:1.1,2.2 900 1\n", " 70.0 %  cmd/postern/..., want 70 %\n", true},
		{"commands below it", "postern/cmd/postern/a.go:1.1,2.2 69 3\npostern/cmd/postern/b/b.go:3.1,4.2 31 0\n" +
			"postern/dkim/a.go:1.1,2.2 900 1\n", " 69.0 %  cmd/postern/..., want 70 %\n", false},
		{"a block that one of two runs covers", "postern/dkim/a.go:1.1,2.2 4 0\npostern/dkim/a.go:1.1,2.2 4 2\n", "100.0 %  dkim\n", true},
		{"the end-to-end tests do not count", "postern/integration/sink/a.go:1.1,2.2 4 0\npostern/dkim/a.go:1.1,2.2 4 2\n",
			"100.0 %  all", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			rooms, err := read(strings.NewReader(c.profile))
			if err != nil {
				t.Fatal(err)
			}

			var out bytes.Buffer
			if enough := report(&out, rooms); enough != c.enough {
				t.Errorf("got enough = %v, want %v", enough, c.enough)
			}
			if !strings.Contains(out.String(), c.line) {
				t.Errorf("got %q, want the line %q in it", out.String(), c.line)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct{ name, profile, want string }{
		{"a line with too little", "mode: set\npostern/a.go:1.1,2.2 4\n", "line 2: want POSITION STATEMENTS COUNT"},
		{"no number", "postern/a.go:1.1,2.2 x 1\n", `line 1: strconv.Atoi: parsing "x": invalid syntax`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := read(strings.NewReader(c.profile))
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
