package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bound binds a text, and returns what is wrong with it, one problem a line,
// without the file's name.
func bound(t *testing.T, text string) (*Config, []string) {
	t.Helper()
	b := newBinder("postern.toml", noEnv)
	c := Default()
	b.bind([]byte(text), c)

	var out []string
	for _, p := range b.problems {
		out = append(out, strings.TrimPrefix(p.Error(), "postern.toml:"))
	}
	return c, out
}

// TestValuesOfTheWrongKind gives each kind of key what it is not.
func TestValuesOfTheWrongKind(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"string for a whole number", "[submission]\nmax_recipients = \"1\"\n", `2: submission.max_recipients: want a whole number from 0 on, not the string "1"`},
		{"negative", "[submission]\nmax_recipients = -1\n", `2: submission.max_recipients: want a whole number from 0 on, not -1`},
		{"fraction", "[submission]\nmax_recipients = 1.5\n", `2: submission.max_recipients: want a whole number from 0 on, not 1.5`},
		{"zero is a whole number", "[submission]\nmax_recipients = 0\n", ""},
		{"number for a string", "state_dir = 3\n", `1: state_dir: want a string, not 3`},
		{"date for a string", "state_dir = 2026-12-31\n", `1: state_dir: want a string, not a date`},
		{"string for a boolean", "[tracking]\nopen = \"yes\"\n", `2: tracking.open: want true or false, not the string "yes"`},
		{"number for a boolean", "[tracking]\nopen = 1\n", `2: tracking.open: want true or false, not 1`},
		{"boolean for a string", "[log]\nlevel = true\n", `2: log.level: want a string, not true`},
		{"boolean for a list", "[relay]\nupstream = false\n", `2: relay.upstream: want a list, in square brackets, not false`},
		{"table for a list", "[relay.upstream]\n", `1: relay.upstream: want a list, in square brackets, not a table`},
		{"list in a list", "[relay]\nupstream = [[\"a:1\"]]\n", `2: relay.upstream[0]: want a string, not a list`},
		{"string for a table", "relay = \"x\"\n", `1: relay: want a table, [relay], not the string "x"`},
		{"number for a table in a table", "[tracking]\nweb = 3\n", `2: tracking.web: want a table, [tracking.web], not 3`},
		{"list for a table", "relay = [1]\n", `1: relay: want a table, [relay], not a list`},
		{"tables in double brackets for one table", "[[relay]]\nqueue = \"always\"\n", `1: relay: want a table, [relay], not a list`},
		{"single brackets for several tables", "[relay.rewrite]\n", `1: relay.rewrite: there may be several: write [[relay.rewrite]], in double brackets`},
		{"string among tables", "pool = [\"a\"]\n", `1: pool[0]: want a table, [pool[0]], not the string "a"`},
		{"string for a table of any keys", "[accounting]\nbounce_class = \"x\"\n", `2: accounting.bounce_class: want a table, [accounting.bounce_class], not the string "x"`},
		{"string in a table of any keys", "[accounting.bounce_class]\na = \"x\"\n", `2: accounting.bounce_class.a: want a whole number from 0 on, not the string "x"`},
		{"string for a subaccount", "[signals]\nsubaccount = \"7\"\n", `2: signals.subaccount: want a whole number from 0 to 4294967295, not the string "7"`},
		{"negative subaccount", "[signals]\nsubaccount = -1\n", `2: signals.subaccount: want a whole number from 0 to 4294967295, not -1`},
		{"the largest subaccount", "[signals]\nsubaccount = 4294967295\n", ""},
		{"beyond the largest subaccount", "[signals]\nsubaccount = 4294967296\n", `2: signals.subaccount: want a whole number from 0 to 4294967295, not 4294967296`},
		{"a word for enable_signals", "[signals]\nenable_signals = \"flase\"\n", `2: signals.enable_signals: want true, false or "filter"`},
		{"a number for enable_signals", "[signals]\nenable_signals = 1\n", `2: signals.enable_signals: want a string, not 1`},
		{"size as a number", "[submission]\nmax_message_size = 1048576\n", ""},
		{"negative size", "[submission]\nmax_message_size = -1\n", `2: submission.max_message_size: want a string, not -1`},
		{"boolean for a size", "[submission]\nmax_message_size = true\n", `2: submission.max_message_size: want a string, not true`},
		{"duration as a number", "shutdown_grace = 30\n", `1: shutdown_grace: want a duration in quotes with its unit, for example "30s", not 30`},
		{"duration as a negative number", "shutdown_grace = -30\n", `1: shutdown_grace: want a string, not -30`},
		{"duration as zero", "shutdown_grace = 0\n", `1: shutdown_grace: want a duration in quotes with its unit, for example "0s", not 0`},
		{"rate as a number", "[submission]\nauth_failure_rate = 7\n", `2: submission.auth_failure_rate: want a rate in quotes, for example "7/min", not 7`},
		{"rate as zero", "[submission]\nauth_failure_rate = 0\n", `2: submission.auth_failure_rate: want a rate in quotes, for example "1/min", not 0`},
		{"address as a number", "[relay]\nupstream = [2525]\n", `2: relay.upstream[0]: want "HOST:PORT", for example "127.0.0.1:2525", not 2525`},
		{"address that may be left out, as a number", "[admin]\nlisten = 8025\n", `2: admin.listen: want "HOST:PORT", for example "127.0.0.1:8025", not 8025`},
		{"URL as a number", "[tracking]\nurl = 1\n", `2: tracking.url: want a string, not 1`},
		{"a long string is cut", "shutdown_grace = \"" + strings.Repeat("x", 50) + "\"\n[tracking]\nopen = \"" + strings.Repeat("y", 50) + "\"\n",
			`1: shutdown_grace: not a duration, write for example "30s", "4m" or "365d"` + "\n" + `3: tracking.open: want true or false, not the string "` + strings.Repeat("y", 40) + `"`},
		{"number for a secret is not shown", "[relay]\npassword = 31415926\n", `2: relay.password: want a string`},
		{"number for a secret's file", "[relay]\npassword_file = 3\n", `2: relay.password_file: want the path of a file`},
		{"boolean of a rule", "[[tracking.rule]]\nopen = \"no\"\n", `2: tracking.rule[0].open: want true or false, not the string "no"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := bound(t, c.text)
			if text := strings.Join(got, "\n"); text != c.want {
				t.Errorf("got\n%s\nwant\n%s", text, c.want)
			}
		})
	}
}

// TestValuesArriveWhereTheyBelong gives each kind of key what it wants.
func TestValuesArriveWhereTheyBelong(t *testing.T) {
	c, problems := bound(t, `
state_dir = "/x"
memory_budget = 4096
[submission]
max_recipients = 7
[accounting.bounce_class]
a = 51
b = 1
[signals]
subaccount = 4294967295
[[tracking.rule]]
open = false
click = true
[[tracking.rule]]
[[submission.source]]
require_auth = false
`)
	if len(problems) > 0 {
		t.Fatal(problems)
	}

	if c.StateDir != "/x" || c.MemoryBudget != 4096 || c.Submission.MaxRecipients != 7 || c.Signals.Subaccount != 1<<32-1 {
		t.Errorf("got %+v", c)
	}
	if got := c.Accounting.BounceClass; len(got) != 2 || got["a"] != 51 || got["b"] != 1 {
		t.Errorf("got bounce classes %v, want a 51 and b 1", got)
	}
	rules := c.Tracking.Rules
	if len(rules) != 2 || rules[0].Open == nil || *rules[0].Open || rules[0].Click == nil || !*rules[0].Click ||
		rules[0].InitialOpen != nil || rules[1].Open != nil {
		t.Errorf("got rules %+v, want open false, click true, and nothing of what is left out", rules)
	}
	if got := c.Submission.Sources; len(got) != 1 || got[0].RequireAuth {
		t.Errorf("got sources %+v, want one without a password", got)
	}
}

func TestUnknownKeysGetHints(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"one letter", "[log]\nlevl = 1\n", `2: log.levl: unknown key, did you mean level?`},
		{"two letters", "[log]\nlvl = 1\n", `2: log.lvl: unknown key, did you mean level?`},
		{"three letters", "[log]\nlvel2x = 1\n", `2: log.lvel2x: unknown key`},
		{"the file of a secret", "[relay]\npassword_fil = 1\n", `2: relay.password_fil: unknown key, did you mean password_file?`},
		{"of another table", "[log]\nupstream = 1\n", `2: log.upstream: unknown key; there is one of that name in [relay]`},
		{"of two other tables", "[log]\nmax_message_size = 1\n", `2: log.max_message_size: unknown key; there is one of that name in [submission] and in [reports]`},
		{"of the top", "[log]\nhostname = 1\n", `2: log.hostname: unknown key; there is one of that name at the top of the file, before the first table`},
		{"of a list of tables", "[log]\nmail_from = 1\n", `2: log.mail_from: unknown key; there is one of that name in [[relay.rewrite]]`},
		{"of a list of tables at the top", "[log]\nsource_host = 1\n", `2: log.source_host: unknown key; there is one of that name in [[virtual_mta]]`},
		{"of a table in a table", "[log]\nfinal_dot = 1\n", `2: log.final_dot: unknown key; there is one of that name in [relay.timeouts]`},
		{"of none", "[log]\nqqqqqqqq = 1\n", `2: log.qqqqqqqq: unknown key`},
		{"two, in the file's order", "[log]\nzzzzzzzz = 1\nqqqqqqqq = 1\n", "2: log.zzzzzzzz: unknown key\n3: log.qqqqqqqq: unknown key"},
		{"in an element of a list", "[[pool]]\nname = \"a\"\n[[pool]]\nqqqqqqqq = 1\n", `4: pool[1].qqqqqqqq: unknown key`},
		{"the first of two that are as near", "[admin]\nsockets = \"\"\nlists = \"\"\n", "2: admin.sockets: unknown key, did you mean socket?\n3: admin.lists: unknown key, did you mean hosts?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := bound(t, c.text)
			if text := strings.Join(got, "\n"); text != c.want {
				t.Errorf("got\n%s\nwant\n%s", text, c.want)
			}
		})
	}
}

func TestSyntaxErrorsAreExplained(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no closing quote", "\nhostname = \"a\n", `2: the text has no closing quote on this line`},
		{"no quotes", "\n\nhostname = mail\n", `3: not a value: text is written in quotes, for example "mail.example.com"`},
		{"a key twice", "\nhostname = \"a\"\n\nhostname = \"b\"\n", `4: hostname: defined already, on line 2: keep one of the two`},
		{"a table twice", "[log]\n[relay]\n[log]\n", `3: log: defined already, on line 1: keep one of the two`},
		{"a key of a table twice", "[log]\nlevel = \"info\"\nformat = \"text\"\nlevel = \"warn\"\n", `4: level: defined already, on line 2: keep one of the two`},
		{"a key three times", "hostname = \"a\"\nhostname = \"b\"\nhostname = \"c\"\n", `2: hostname: defined already, on line 1: keep one of the two`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c1, got := bound(t, c.text)
			if text := strings.Join(got, "\n"); text != c.want {
				t.Errorf("got\n%s\nwant\n%s", text, c.want)
			}
			if c1.Hostname != "" {
				t.Errorf("got hostname %q, want nothing bound", c1.Hostname)
			}
		})
	}
}

func TestOneProblemAKey(t *testing.T) {
	b := newBinder("postern.toml", noEnv)
	b.problem("a", "first")
	b.problem("a", "second")
	b.problem("", "of the file")
	b.problem("", "of the file, too")
	b.warn("w", "warned")
	b.problem("w", "and wrong")
	b.warn("a", "a warning beside")

	want := []string{
		"postern.toml:1: a: first",
		"postern.toml:1: of the file",
		"postern.toml:1: of the file, too",
		"postern.toml:1: w: warning: warned",
		"postern.toml:1: w: and wrong",
		"postern.toml:1: a: warning: a warning beside",
	}
	if got := b.problems.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if got := b.problems.Fatal(); len(got) != 4 {
		t.Errorf("got %d of them fatal, want 4: %v", len(got), got)
	}
	if got := (Problems{{Warn: true}}).Fatal(); got != nil {
		t.Errorf("warnings alone: got %v, want nil", got)
	}
}

func TestProblemsStandInTheFilesOrder(t *testing.T) {
	ps := Problems{{Line: 3, Key: "c"}, {Line: 1, Key: "a"}, {Line: 3, Key: "b"}, {Line: 2}}.byLine()
	var got []string
	for _, p := range ps {
		got = append(got, p.Key)
	}
	if want := []string{"a", "", "c", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLinesOfKeys: what is missing is named on the line of its table.
func TestLinesOfKeys(t *testing.T) {
	b := newBinder("postern.toml", noEnv)
	b.locate([]byte("# one\nhostname = \"x\"\n[relay]\nupstream = [\n  \"a:1\",\n]\n[[pool]]\n[[pool]]\nname = \"b\"\n\"a b\".c = 1\n[a.b]\nx.y = 1\n"))
	for key, want := range map[string]int{
		"hostname": 2, "relay": 3, "relay.upstream": 4, "relay.upstream[0]": 4, "relay.queue": 3,
		"pool": 7, "pool[0]": 7, "pool[0].name": 7, "pool[1]": 8, "pool[1].name": 9, "pool[1].subaccount": 8,
		"pool[1].a b.c": 10, "a.b.x.y": 12, "a.b.z": 11,
		"nowhere": 1, "nowhere.at.all": 1,
	} {
		if got := b.line(key); got != want {
			t.Errorf("%s: got line %d, want %d", key, got, want)
		}
	}
	if b.given("relay.queue") || !b.given("relay.upstream") {
		t.Error("given: want relay.upstream and not relay.queue")
	}
}

func TestDistanceCountsEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "a", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "axc", 1}, {"abc", "ac", 1}, {"abc", "abxc", 1},
		{"kitten", "sitting", 3}, {"ab", "ba", 2}, {"saturday", "sunday", 3}, {"aaa", "bbb", 3}, {"abcdef", "bcdefa", 2},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: got %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance(c.b, c.a); got != c.want {
			t.Errorf("%q and %q: got %d, want %d", c.b, c.a, got, c.want)
		}
	}
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	b := newBinder("/etc/postern/postern.toml", noEnv)
	for path, want := range map[string]string{"": "", "/a/b": "/a/b", "a": "/etc/postern/a", "../a": "/etc/a"} {
		if got := b.Path(path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

// TestSecretsComeFromThreePlaces asks for each, what is cut off, and which of
// them are remembered as standing in the file itself.
func TestSecretsComeFromThreePlaces(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(" a b \r\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"POSTERN_RELAY_PASSWORD": "of the environment"}
	for _, c := range []struct {
		name, text    string
		env           map[string]string
		want, problem string
		own           bool
	}{
		{name: "nowhere"},
		{name: "in place", text: "password = \"x\"\n", want: "x", own: true},
		{name: "in a file", text: "password_file = \"password\"\n", want: " a b "},
		{name: "in the environment", env: env, want: "of the environment"},
		{name: "in place and in the environment", text: "password = \"x\"\n", env: env, want: "of the environment"},
		{name: "in a file and in the environment", text: "password_file = \"password\"\n", env: env, want: " a b "},
		{name: "in place and in a file", text: "password = \"x\"\npassword_file = \"password\"\n", want: "x",
			problem: "postern.toml:3: relay.password_file: relay.password is given already, take one of the two out"},
		{name: "in a file that is not there", text: "password_file = \"nowhere\"\n",
			problem: "postern.toml:2: relay.password_file: open DIR/nowhere: no such file or directory"},
		{name: "in a file whose name is a number", text: "password_file = 3\n", problem: "postern.toml:2: relay.password_file: want the path of a file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBinder(filepath.Join(dir, "postern.toml"), func(k string) string { return c.env[k] })
			conf := Default()
			b.bind([]byte("[relay]\n"+c.text), conf)

			if conf.Relay.Password != c.want {
				t.Errorf("got %q, want %q", conf.Relay.Password, c.want)
			}
			if got := strings.TrimPrefix(strings.ReplaceAll(b.problems.Error(), dir, "DIR"), "DIR/"); got != c.problem {
				t.Errorf("got problem %q, want %q", got, c.problem)
			}
			if got := slices.Contains(b.inPlace, "relay.password"); got != c.own {
				t.Errorf("got %v that it is in the file, want %v", got, c.own)
			}
		})
	}
}

// TestAMissingFileIsOneProblem: nothing else is said of it.
func TestAMissingFileIsOneProblem(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		filepath.Join(dir, "nowhere.toml"): ":1: no such file or directory",
		dir:                                ":1: is a directory",
	} {
		l, problems := load(name, All, noEnv)
		if got := problems.Error(); got != name+want {
			t.Errorf("got %q, want %q", got, name+want)
		}
		if l.Understood() {
			t.Errorf("%s: understood, want not", name)
		}
	}
}

func TestUnderstoodMeansThatTheFileReads(t *testing.T) {
	for text, want := range map[string]bool{
		"":                               false, // nothing is said of the gateway either
		smallest:                         true,
		"hostname = 3\n":                 true,
		"hostname = \n":                  false,
		"hostname = \"a\"\nhostname=3\n": false,
	} {
		l, _ := load(write(t, folder(t), text), All, noEnv)
		if got := l.Understood(); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
