package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLoadReadsUsersOnlyWhereTheyAreNeeded asks for what a role reads.
func TestLoadReadsUsersOnlyWhereTheyAreNeeded(t *testing.T) {
	const broken = "[[user]]\n"
	upstream := smallest + "[submission]\nauth = \"upstream\"\n"
	for _, c := range []struct {
		name, text, users string
		role              Role
		want              string
	}{
		{"a tracker", smallest, broken, Tracker, ""},
		{"a gateway", smallest, broken, All, "users.toml:1: user[0].name: missing"},
		{"a file that does not read as TOML", "hostname = \n", broken, All, "postern.toml:1: "},
		{"logins at the upstream, with a users file", upstream, broken, All, "users.toml:1: user[0].name: missing"},
		{"logins at the upstream, and a source", upstream + "[[submission.source]]\nnetwork = \"10.0.0.0/8\"\n", "", All, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t)
			if err := os.WriteFile(filepath.Join(dir, "users.toml"), []byte(c.users), 0o600); err != nil {
				t.Fatal(err)
			}
			l, problems := load(write(t, dir, c.text), c.role, noEnv)

			var got []string
			for _, p := range problems.Fatal() {
				got = append(got, strings.TrimPrefix(p.Error(), dir+"/"))
			}
			if len(got) > 1 || strings.Join(got, "") == "" != (c.want == "") || !strings.HasPrefix(strings.Join(got, ""), c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if l.Role != c.role || l.File != filepath.Join(dir, "postern.toml") {
				t.Errorf("got role %s and file %s", l.Role, l.File)
			}
		})
	}
}

func TestLoadReadsTheEnvironment(t *testing.T) {
	t.Setenv("POSTERN_SIGNALS_API_KEY", strings.Repeat("cd", 20))
	l, problems := Load(write(t, folder(t), smallest+"[signals]\nenabled = true\n"), All)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if got := string(l.Signals.APIKey); got != strings.Repeat("cd", 20) {
		t.Errorf("got API key %q, want that of the environment", got)
	}
}

// TestPathsAreAbsolute: after Load every path is, relative to the file or to
// state_dir.
func TestPathsAreAbsolute(t *testing.T) {
	l, _ := load(write(t, folder(t), smallest+`[certs]
mode = "files"
acme_ca_file = "x"
[[certs.pair]]
cert_file = "x"
key_file = "x"
[relay]
ca_file = "x"
[tracking.web]
geoip_db = "x"
assetlinks = "x"
apple_app_site_association = "x"
[reports]
keep = "x"
[accounting]
files = ["x", "/x"]
pipe_dir = "x"
[[dkim.key]]
domain = "x.example"
selector = "s"
key_file = "x"
`), All, noEnv)

	dir := filepath.Dir(l.File)
	x := filepath.Join(dir, "x")
	for name, got := range map[string]string{
		"pair.cert": l.Certs.Pairs[0].CertFile, "pair.key": l.Certs.Pairs[0].KeyFile, "relay.ca": l.Relay.CAFile,
		"geoip": l.Tracking.Web.GeoIPDB, "assetlinks": l.Tracking.Web.AssetLinks, "apple": l.Tracking.Web.AppleAppSite,
		"keep": l.Reports.Keep, "accounting": l.Accounting.Files[0], "pipe_dir": l.Accounting.PipeDir, "dkim": l.DKIM.Keys[0].KeyFile,
	} {
		if got != x {
			t.Errorf("%s: got %q, want %q", name, got, x)
		}
	}
	for name, c := range map[string]struct{ got, want string }{
		"cert_file":   {l.Certs.CertFile, filepath.Join(dir, "fullchain.pem")},
		"key_file":    {l.Certs.KeyFile, filepath.Join(dir, "privkey.pem")},
		"token keys":  {l.Tracking.KeyFile, filepath.Join(dir, "token.keys")},
		"users_file":  {l.Submission.UsersFile, filepath.Join(dir, "users.toml")},
		"files[1]":    {l.Accounting.Files[1], "/x"},
		"socket":      {l.Admin.Socket, "/var/lib/postern/admin.sock"},
		"pipe socket": {l.Accounting.PipeSocket, "/var/lib/postern/pipe.sock"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", name, c.got, c.want)
		}
	}

	acme, _ := load(write(t, folder(t), "state_dir = \"state\"\n"+smallest+"[certs]\nmode = \"acme\"\nacme_ca_file = \"x\"\n[admin]\nsocket = \"/a\"\n"), All, noEnv)
	dir = filepath.Dir(acme.File)
	if got := acme.Certs.ACMECAFile; got != filepath.Join(dir, "x") {
		t.Errorf("acme_ca_file: got %q", got)
	}
	if acme.StateDir != filepath.Join(dir, "state") || acme.Admin.Socket != "/a" || acme.Accounting.PipeSocket != filepath.Join(dir, "state/pipe.sock") {
		t.Errorf("got state_dir %q, sockets %q and %q", acme.StateDir, acme.Admin.Socket, acme.Accounting.PipeSocket)
	}
}

// TestThePipesGroupIsThatOfAdmin where it has none of its own.
func TestThePipesGroupIsThatOfAdmin(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		"[admin]\nsocket_group = \"root\"\n": "root",
		"[accounting]\npipe_group = \"0\"\n": "0",
		"[admin]\nsocket_group = \"root\"\n[accounting]\npipe_group = \"0\"\n": "0",
	} {
		l, problems := load(write(t, folder(t), smallest+text), All, noEnv)
		if got := l.Accounting.PipeGroup; got != want || len(problems) > 0 {
			t.Errorf("%q: got %q, %v, want %q", text, got, problems, want)
		}
	}
}

func TestUsersFileIsFoundWhateverElseIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		smallest: "users.toml",
		"[submission]\nusers_file = \"/x/u.toml\"\nlisten = 3\n": "/x/u.toml",
		"[submission]\nusers_file = \"u.toml\"\n":                "u.toml",
	} {
		file := write(t, t.TempDir(), text)
		if !filepath.IsAbs(want) {
			want = filepath.Join(filepath.Dir(file), want)
		}
		if got, err := UsersFile(file); got != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}

	file := write(t, t.TempDir(), "hostname = \n")
	var ps Problems
	if got, err := UsersFile(file); got != "" || !errors.As(err, &ps) || ps[0].Line != 1 {
		t.Errorf("a file that does not read: got %q, %v, want what is wrong on line 1", got, err)
	}
	if got, err := UsersFile(file + ".not"); got != "" || err == nil {
		t.Errorf("no file: got %q, %v, want an error", got, err)
	}
}

func TestLoadUsersNamesWhatIsWrongWithTheFile(t *testing.T) {
	dir := t.TempDir()
	nowhere := filepath.Join(dir, "users.toml")
	for file, want := range map[string]string{
		nowhere: nowhere + ":1: there is no users file yet; `postern passwd --config FILE NAME` makes it, with a first user",
		dir:     dir + ":1: is a directory",
	} {
		users, problems := LoadUsers(file, noEnv)
		if users != nil || problems.Error() != want || len(problems.Fatal()) != 1 {
			t.Errorf("got %v, %q, want %q", users, problems.Error(), want)
		}
	}
}

func TestUsersOfAFile(t *testing.T) {
	file := usersFile(t, `[[user]]
name = "full"
password = "`+hash+`"
virtual_mta = "v"
job = "j"
job_prefix = "p"
subaccount = 7
from_domains = ["a.example"]
tracking = false
dkim_key = "k"
[[user]]
name = "short"
from_domains = ["*", "a..example"]
password = "secret"
[[user]]
name = "FULL"
[[user]]
name = "free"
`)
	users, problems := LoadUsers(file, noEnv)
	if len(users) != 4 {
		t.Fatalf("got %+v, want four", users)
	}
	u := users[0]
	if u.Name != "full" || u.Password != hash || u.VirtualMTA != "v" || u.Job != "j" || u.JobPrefix != "p" || u.Subaccount != 7 ||
		len(u.FromDomains) != 1 || u.Tracking || u.DKIMKey != "k" {
		t.Errorf("got %+v", u)
	}
	if !users[1].Tracking {
		t.Error("tracking: got false where nothing is said, want true")
	}

	const anybody = " may send as anybody, and gets every signature of domains that no other user is held to; name the domains it may send from"
	want := []string{
		`14: user[1].password: `,
		`13: user[1].from_domains[1]: "a..example" is not a domain; write for example "example.com", "*.example.com" for what is below, or "*" for any`,
		`16: user[2].name: there is another user of this name in line 2, "FULL"; names are compared without case`,
		`15: user[2].from_domains: warning: FULL` + anybody,
		`17: user[3].from_domains: warning: free` + anybody,
	}
	if len(problems) != len(want) {
		t.Fatalf("got\n%v\nwant %d of them", problems, len(want))
	}
	for i, p := range problems {
		if got := strings.TrimPrefix(p.Error(), file+":"); !strings.HasPrefix(got, want[i]) {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
	}
}

// TestASingleUserMayHaveNoDomains: where nobody else is held to any, nothing is
// to be said.
func TestASingleUserMayHaveNoDomains(t *testing.T) {
	if _, problems := LoadUsers(usersFile(t, "[[user]]\nname = \"a\"\n"), noEnv); len(problems) > 0 {
		t.Errorf("got %v, want nothing", problems)
	}
}

func TestUsersThatSettingsNameHaveToBeThere(t *testing.T) {
	source := func(user, auth string) string {
		return "[[submission.source]]\nnetwork = \"10.0.0.0/8\"\nrequire_auth = " + auth + "\nuser = \"" + user + "\"\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"there", source("A", "false"), ""},
		{"not there", source("b", "false"), `7: submission.source[0].user: no user "b" in the users file; its settings would apply`},
		{"not named", "[[submission.source]]\nnetwork = \"10.0.0.0/8\"\nrequire_auth = false\n",
			`4: submission.source[0].user: no user "" in the users file; its settings would apply`},
		{"not there, of a source with passwords", source("b", "true"), ""},
		{"the second", source("a", "false") + source("b", "false"), `11: submission.source[1].user: no user "b" in the users file; its settings would apply`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(problemsOf(t, All, smallest+c.text, nil), "\n"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestWithUsersHoldsThemToTheConfiguration: users that are read anew are
// checked as those of the start.
func TestWithUsersHoldsThemToTheConfiguration(t *testing.T) {
	dir := folder(t)
	users := filepath.Join(dir, "users.toml")
	l, problems := load(write(t, dir, smallest+`[submission]
auth = "upstream"
default_user = "a"
[[submission.source]]
network = "10.0.0.0/8"
require_auth = false
user = "a"
[relay]
username = "u"
password = "p"
`), All, noEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if l.UsersStamp != StampFile(users) || l.UsersStamp == (FileStamp{}) {
		t.Errorf("got stamp %+v, want the file's", l.UsersStamp)
	}

	if err := os.WriteFile(users, []byte("[[user]]\nname = \"b\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, problems := l.WithUsers()

	if len(n.Users) != 1 || n.Users[0].Name != "b" || n.UsersStamp != StampFile(users) {
		t.Errorf("got %+v, %+v, want the new user and the new stamp", n.Users, n.UsersStamp)
	}
	if len(l.Users) != 1 || l.Users[0].Name != "a" {
		t.Errorf("got %+v in the old configuration, want it as it was", l.Users)
	}
	want := []string{
		`10: submission.source[0].user: no user "a" in the users file; its settings would apply`,
		`6: submission.default_user: no user "a" in the users file; its settings would apply`,
	}
	if len(problems) != len(want) {
		t.Fatalf("got %v, want %d of them", problems, len(want))
	}
	for i, p := range problems {
		if got := strings.TrimPrefix(p.Error(), l.File+":"); got != want[i] {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
	}
}

// TestAUsersFileThatCannotBeReadIsNotReplaced: only one that is not there is
// made anew.
func TestAUsersFileThatCannotBeReadIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "users.toml")
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}

	if _, _, err := (UsersEditor{File: file}).SetPassword("a", hash); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("set: got %v, want that it is a directory", err)
	}
	if _, err := (UsersEditor{File: file}).Delete("a"); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("delete: got %v, want that it is a directory", err)
	}
	if info, err := os.Stat(file); err != nil || !info.IsDir() {
		t.Errorf("got %v, %v, want it as it was", info, err)
	}
}

// TestEditorsLeaveNothingBehind: neither a success nor a refusal leaves a copy
// of the hashes, nor the lock held.
func TestEditorsLeaveNothingBehind(t *testing.T) {
	file := usersFile(t, "[[user]]\nname = \"a\"\n")
	e := UsersEditor{File: file}
	for range 2 {
		if _, _, err := e.SetPassword("a", hash); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Delete("nobody"); err == nil || !strings.Contains(err.Error(), file+`: no user "nobody"`) {
			t.Errorf("got %v, want that there is no such user", err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(file, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.SetPassword("a", hash); err == nil {
		t.Error("a folder in its place: got no error")
	}

	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if f.Name() != "users.toml" && !strings.HasSuffix(f.Name(), ".lock") {
			t.Errorf("got %s left behind", f.Name())
		}
	}
}

// TestEditorsWantALock: without one nothing is changed.
func TestEditorsWantALock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nowhere", "users.toml")
	if _, _, err := (UsersEditor{File: file}).SetPassword("a", hash); err == nil {
		t.Error("no folder: got no error")
	}
}

func TestEditorsSayWhatTheyDid(t *testing.T) {
	e := UsersEditor{File: usersFile(t, "[[user]]\nname = \"App\"\n")}
	for _, c := range []struct {
		name, written string
		added         bool
	}{{"aPP", "App", false}, {"new", "new", true}, {"NEW", "new", false}} {
		written, added, err := e.SetPassword(c.name, hash)
		if written != c.written || added != c.added || err != nil {
			t.Errorf("%s: got %q, %v, %v, want %q, %v", c.name, written, added, err, c.written, c.added)
		}
	}
	if left, err := e.Delete("APP"); left != 1 || err != nil {
		t.Errorf("got %d left, %v, want 1", left, err)
	}
	if left, err := e.Delete("new"); left != 0 || err != nil {
		t.Errorf("got %d left, %v, want none", left, err)
	}
}

// TestEditorsMendOneUserBesideABadOne: what was wrong before may be wrong after,
// and nothing else.
func TestEditorsMendOneUserBesideABadOne(t *testing.T) {
	file := usersFile(t, "[[user]]\nname = \"a\"\npassword = \"no hash\"\n[[user]]\nname = \"b\"\npassword = \"no hash\"\n")
	if _, _, err := (UsersEditor{File: file}).SetPassword("a", hash); err != nil {
		t.Errorf("mending one of two: got %v", err)
	}
	before := read(t, file)
	if _, _, err := (UsersEditor{File: file}).SetPassword("c", "no hash either"); err == nil || !strings.Contains(err.Error(), file+": not changed: ") {
		t.Errorf("a hash that is none: got %v, want that nothing was changed", err)
	}
	if got := read(t, file); got != before {
		t.Errorf("got\n%s\nwant it unchanged", got)
	}
}
