package main

import (
	msgdkim "github.com/emersion/go-msgauth/dkim"

	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/dkim"
	"postern/relay"
	"postern/smtpd/auth"
	"postern/tracking/token"
)

func TestJobid(t *testing.T) {
	code, stdout, stderr := execute(t, "", "jobid", "Spring sale", "a", "été")
	if code != 0 || stdout != "Spring_sale\na\n_t_\n" || stderr != "" {
		t.Errorf("got %d %q %q, want a line a name", code, stdout, stderr)
	}
}

func TestVersionSaysWhatItWasBuiltFrom(t *testing.T) {
	want := regexp.MustCompile(`^postern devel\ncommit ([0-9a-f]{40}|unknown)\n` +
		regexp.QuoteMeta(fmt.Sprintf("%s %s/%s\nRSA: ", runtime.Version(), runtime.GOOS, runtime.GOARCH)) + `[^\n]+\n$`)
	for _, args := range [][]string{{"version"}, {"--version"}, {"serve", "--version"}} {
		code, stdout, stderr := execute(t, "", args...)
		if code != 0 || !want.MatchString(stdout) || stderr != "" {
			t.Errorf("%v: got %d %q %q, want 0 and %s", args, code, stdout, stderr, want)
		}
	}
}

func TestTokenKeygenAddsKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token.keys")
	for i := 1; i <= 2; i++ {
		code, stdout, stderr := execute(t, "", "token", "keygen", file)
		if want := fmt.Sprintf("%s: key %d added\n", file, i); code != 0 || stdout != want || stderr != "" {
			t.Errorf("got %d %q %q, want %q", code, stdout, stderr, want)
		}
	}
	if _, err := token.ReadKeys(file); err != nil {
		t.Error(err)
	}

	bad := writeFile(t, t.TempDir(), "bad.keys", "nonsense\n")
	code, stdout, stderr := execute(t, "", "token", "keygen", bad)
	if code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "postern: token: ") {
		t.Errorf("a file that is none: got %d %q %q, want that it failed", code, stdout, stderr)
	}
	if text, err := os.ReadFile(bad); err != nil || string(text) != "nonsense\n" {
		t.Errorf("got %q, %v, want it as it was", text, err)
	}
}

// TestTokenDecodePrintsWhatALinkHolds: a link, a link below a path, a token of
// a mail, and one of a host.
func TestTokenDecodePrintsWhatALinkHolds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token.keys")
	if _, err := token.AddKey(file, time.Now()); err != nil {
		t.Fatal(err)
	}
	keys, err := token.ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	id := keys.NewID(time.Now())
	sealed := func(host string) string {
		return keys.Seal(token.Token{Kind: token.Click, MessageID: id, Host: host, Recipient: "r@example.net", Subaccount: 7,
			Target: "https://example.com/?a=1&b=<2>", LinkName: "welcome"})
	}
	ofHost, ofMail := sealed("track.example.com"), sealed(token.Mail)

	for _, c := range []struct {
		name string
		args []string
		host string // empty: it fails
	}{
		{"a link", []string{"https://Track.example.com" + token.PathPrefix + ofHost}, "track.example.com"},
		{"a link below a path", []string{"https://track.example.com/x/y" + token.PathPrefix + ofHost}, "track.example.com"},
		{"a token of a mail", []string{ofMail}, token.Mail},
		{"a token and its host", []string{"--host", "Other.example", "--host", "TRACK.example.com", ofHost}, "track.example.com"},
		{"a token without its host", []string{ofHost}, ""},
		{"a link of another host", []string{"https://other.example" + token.PathPrefix + ofHost}, ""},
		{"no token", []string{"nonsense"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := execute(t, "", append([]string{"token", "decode", "--keys", file}, c.args...)...)
			if c.host == "" {
				if code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "postern: not a token of ours: ") {
					t.Errorf("got %d %q %q, want that it failed", code, stdout, stderr)
				}
				return
			}

			var got map[string]any
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 {
				t.Fatalf("got %d %q %q: %v", code, stdout, stderr, err)
			}
			issued, _ := got["issued"].(string)
			if at, err := time.Parse(time.RFC3339Nano, issued); err != nil || !strings.HasSuffix(issued, "Z") || time.Since(at) > time.Hour {
				t.Errorf("got issued %q, want now, in UTC", issued)
			}
			for key, want := range map[string]any{
				"kind": "click", "message_id": id.String(), "host": c.host, "recipient": "r@example.net", "subaccount": 7.0,
				"target": "https://example.com/?a=1&b=<2>", "link_name": "welcome",
			} {
				if got[key] != want {
					t.Errorf("%s: got %v, want %v", key, got[key], want)
				}
			}
			if len(got) != 8 || !strings.Contains(stdout, "&b=<2>") {
				t.Errorf("got %s, want eight keys, and the target as it is", stdout)
			}
		})
	}

	code, _, stderr := execute(t, "", "token", "decode", "--keys", file+".not", ofMail)
	if code != exitFailed || !strings.Contains(stderr, "no such file") {
		t.Errorf("no keys: got %d %q, want that there is no such file", code, stderr)
	}
}

func TestDKIMKeygenKeepsAKeyThatIsThere(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "key.pem")
	args := []string{"dkim", "keygen", "--domain", "bücher.example", "--selector", "s1", "--out", out, "--type", "ed25519"}

	code, stdout, stderr := execute(t, "", args...)
	if code != 0 || !strings.HasPrefix(stdout, "s1._domainkey.xn--bcher-kva.example. ") || !strings.Contains(stdout, "v=DKIM1; k=ed25519; p=") || stderr != "" {
		t.Errorf("got %d %q %q, want the record for BIND", code, stdout, stderr)
	}
	info, err := os.Stat(out)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 600", info, err)
	}
	key, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := dkim.ReadKey("bücher.example", "s1", out); err != nil || k.Kind() != "ed25519" {
		t.Errorf("got %+v, %v, want a key that reads", k, err)
	}

	code, stdout, stderr = execute(t, "", args...)
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "file exists") {
		t.Errorf("again: got %d %q %q, want that the file exists", code, stdout, stderr)
	}
	if again, err := os.ReadFile(out); err != nil || string(again) != string(key) {
		t.Errorf("again: got another key, %v", err)
	}

	code, plain, _ := execute(t, "", "dkim", "record", "--domain", "bücher.example", "--selector", "s1", "--key", out, "--plain")
	if code != 0 || !strings.HasPrefix(plain, "v=DKIM1; k=ed25519; p=") || strings.Count(plain, "\n") != 1 {
		t.Errorf("record --plain: got %d %q, want the value alone", code, plain)
	}
	code, record, _ := execute(t, "", "dkim", "record", "--domain", "bücher.example", "--selector", "s1", "--key", out)
	if code != 0 || !strings.HasPrefix(record, "s1._domainkey.xn--bcher-kva.example. ") || !strings.Contains(record, strings.TrimSpace(plain)) {
		t.Errorf("record: got %d %q, want the record for BIND", code, record)
	}
}

func TestDKIMCommandsRefuse(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "key.pem")
	missing := filepath.Join(dir, "missing.pem")
	message := writeFile(t, dir, "m.eml", "From: a@example.com\n\nx\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no domain", []string{"keygen", "--domain", "a b", "--selector", "s", "--out", out}, exitFailed, "is not a domain"},
		{"no selector", []string{"keygen", "--domain", "example.com", "--selector", "s 1", "--out", out}, exitFailed, "is not a selector"},
		{"no folder", []string{"keygen", "--domain", "example.com", "--selector", "s", "--type", "ed25519", "--out", filepath.Join(dir, "x", "y")}, exitFailed, "no such file"},
		{"no type", []string{"keygen", "--domain", "example.com", "--selector", "s", "--out", out, "--type", "rsa512"}, exitUsage, "--type must be one of"},
		{"nothing said", []string{"keygen"}, exitUsage, "missing flags: --domain"},
		{"record of a key that is missing", []string{"record", "--domain", "example.com", "--selector", "s", "--key", missing}, exitFailed, "no such file"},
		{"sign with a key that is missing", []string{"sign", "--domain", "example.com", "--selector", "s", "--key", missing, message}, exitFailed, "no such file"},
		{"verify a key that is missing", []string{"verify", "--domain", "example.com", "--selector", "s", "--key", missing}, exitFailed, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := execute(t, "", append([]string{"dkim"}, c.args...)...)
			if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("got %d %q %q, want %d with %q", code, stdout, stderr, c.code, c.want)
			}
		})
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a key was made all the same")
	}
}

// signingKey makes a key file for example.com with selector s.
func signingKey(t *testing.T, dir string) string {
	t.Helper()
	_, pem, err := dkim.Generate("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, "dkim.pem", string(pem))
}

func TestDKIMSignWritesTheMessageBehindItsSignature(t *testing.T) {
	dir := t.TempDir()
	key := signingKey(t, dir)
	message := writeFile(t, dir, "m.eml", "From: a@example.com\nSubject: x\n\nbody\n")

	code, stdout, stderr := execute(t, "", "dkim", "sign", "--domain", "example.com", "--selector", "s", "--key", key, message)

	if code != 0 || stderr != "" {
		t.Fatalf("got %d %q", code, stderr)
	}
	if !strings.HasPrefix(stdout, "DKIM-Signature: ") || !strings.HasSuffix(stdout, "\r\nFrom: a@example.com\r\nSubject: x\r\n\r\nbody\r\n") {
		t.Errorf("got %q, want the message behind its signature, lines with CRLF", stdout)
	}
	record, err := recordOf(key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := msgdkim.VerifyWithOptions(strings.NewReader(stdout), &msgdkim.VerifyOptions{
		LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
	})
	if err != nil || len(list) != 1 || list[0].Err != nil {
		t.Errorf("the signature: got %+v, %v, want one that verifies", list, err)
	}
	if tags := regexp.MustCompile(`[; \t]t=(\d+)`).FindStringSubmatch(stdout); tags == nil {
		t.Errorf("got %q, want the time of signing", stdout)
	}

	bad := writeFile(t, dir, "bad.eml", "From: a@example.com\r\n\r\na\rb\r\n")
	code, stdout, stderr = execute(t, "", "dkim", "sign", "--domain", "example.com", "--selector", "s", "--key", key, bad)
	if code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "postern: "+bad+": ") {
		t.Errorf("a bare CR: got %d %q %q, want that it failed", code, stdout, stderr)
	}
}

func recordOf(keyFile string) (string, error) {
	k, err := dkim.ReadKey("example.com", "s", keyFile)
	if err != nil {
		return "", err
	}
	return dkim.RecordValue(k.Private)
}

const bounceMail = "From: MAILER-DAEMON@mx.example.net\r\nTo: b@b.example\r\nSubject: failed\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nsorry\r\n" +
	"--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n" +
	"Final-Recipient: rfc822; one@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 <no> such user\r\n\r\n" +
	"Final-Recipient: rfc822; two@example.net\r\nAction: failed\r\nStatus: 4.2.2\r\nDiagnostic-Code: smtp; 452 4.2.2 mailbox full\r\n\r\n--x--\r\n"

func TestReportPrintsALineARecipient(t *testing.T) {
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "token.keys")
	if _, err := token.AddKey(keyFile, time.Now()); err != nil {
		t.Fatal(err)
	}
	keys, err := token.ReadKeys(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	id := keys.NewID(time.Now()).String()
	original := func(field string) string {
		return strings.Replace(bounceMail, "\r\n--x--", "--x\r\nContent-Type: text/rfc822-headers\r\n\r\n"+field+": "+id+"\r\nFrom: a@example.com\r\n\r\n--x--", 1)
	}
	two := writeFile(t, dir, "two.eml", bounceMail)
	ours := writeFile(t, dir, "ours.eml", original("X-Sp-Message-Id"))
	mine := writeFile(t, dir, "mine.eml", original("X-My-Id"))
	letter := writeFile(t, dir, "letter.eml", "From: a@example.com\r\n\r\nhello\r\n")

	lines := func(args ...string) (int, []map[string]any, string) {
		code, stdout, stderr := execute(t, "", append([]string{"report"}, args...)...)
		var out []map[string]any
		for line := range strings.Lines(stdout) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%v: %q", err, line)
			}
			out = append(out, m)
		}
		return code, out, stderr
	}

	code, got, stderr := lines(two)
	if code != 0 || len(got) != 2 || stderr != "" {
		t.Fatalf("got %d %v %q, want two lines", code, got, stderr)
	}
	for key, want := range map[string]any{
		"file": two, "kind": "bounce", "recipient": "one@example.net", "status": "5.1.1", "reply_code": "550", "class": 10.0, "hard": true,
		"reason": "550 5.1.1 <no> such user", "fbtype": "", "message_id": "",
	} {
		if got[0][key] != want {
			t.Errorf("%s: got %v, want %v", key, got[0][key], want)
		}
	}
	if got[1]["recipient"] != "two@example.net" || got[1]["status"] != "4.2.2" || got[1]["reply_code"] != "452" || got[1]["hard"] != false {
		t.Errorf("the second: got %v", got[1])
	}
	if _, ok := got[0]["sealed_to"]; ok {
		t.Errorf("got %v, want no sealed_to where no token tells", got[0])
	}
	if _, stdout, _ := execute(t, "", "report", two); !strings.Contains(stdout, "<no>") {
		t.Errorf("got %s, want the reason as it is", stdout)
	}

	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"without keys", []string{ours}, ""},
		{"with keys", []string{"--keys", keyFile, ours}, id},
		{"in another field", []string{"--keys", keyFile, mine}, ""},
		{"in a field that is named", []string{"--keys", keyFile, "--header", "X-My-Id", mine}, id},
	} {
		if code, got, _ := lines(c.args...); code != 0 || len(got) != 2 || got[0]["message_id"] != c.want {
			t.Errorf("%s: got %d %v, want message id %q", c.name, code, got, c.want)
		}
	}

	if code, got, _ := lines(letter); code != 0 || len(got) != 1 || got[0]["recipient"] != "" {
		t.Errorf("no report: got %d %v, want one line without recipient", code, got)
	}
	code, got, stderr = lines(filepath.Join(dir, "nowhere"), two, filepath.Join(dir, "nowhere, too"), letter)
	if code != exitFailed || len(got) != 3 || strings.Count(stderr, "no such file") != 2 {
		t.Errorf("files that are missing: got %d, %d lines, %q, want those of the others, and both named", code, len(got), stderr)
	}
	code, _, stderr = lines("--keys", letter, two)
	if code != exitFailed || !strings.Contains(stderr, "token: ") {
		t.Errorf("keys that are none: got %d %q, want that it failed", code, stderr)
	}
}

// TestCompletionScripts holds the scripts to files. They follow the commands,
// so that the files change with these.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			code, stdout, stderr := execute(t, "", "completion", shell)
			if code != 0 || stderr != "" {
				t.Fatalf("got %d %q", code, stderr)
			}
			compareGolden(t, "completion."+shell, stdout)
		})
	}
	if code, _, stderr := execute(t, "", "completion", "csh"); code != exitUsage || !strings.Contains(stderr, "must be one of") {
		t.Errorf("another shell: got %d %q, want %d", code, stderr, exitUsage)
	}
}

func TestFirstSentence(t *testing.T) {
	for help, want := range map[string]string{
		"": "", "One.": "One", "One. Two.": "One", "One\nTwo": "One", "e.g. x": "e.g", "v1.2 is it.": "v1.2 is it", ". x": "",
	} {
		if got := firstSentence(help); got != want {
			t.Errorf("%q: got %q, want %q", help, got, want)
		}
	}
	if got := shellQuote("it's"); got != `'it'"'"'s'` {
		t.Errorf("got %s", got)
	}
}

// TestHelpOfEveryCommand: each command has a help text, that names its flags.
func TestHelpOfEveryCommand(t *testing.T) {
	for _, args := range []string{"demo", "serve", "check", "passwd", "dkim keygen", "dkim record", "dkim verify", "dkim sign", "token keygen", "token decode",
		"queue list", "queue show", "queue retry", "queue drop", "events tail", "events stats", "events batches", "events replay", "accounting", "report",
		"jobid", "completion", "version"} {
		code, stdout, stderr := execute(t, "", append(strings.Fields(args), "--help")...)
		if code != 0 || !strings.HasPrefix(stdout, "Usage: postern "+args) || stderr != "" {
			t.Errorf("%s: got %d %q %q", args, code, stdout, stderr)
		}
	}
}

// terminal opens a pseudo-terminal: what a person types goes to keys.
func terminal(t *testing.T) (tty, keys *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	t.Cleanup(func() { keys.Close() })
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty, keys
}

// prompts is standard error; where the command asks for a line it types one.
type prompts struct {
	strings.Builder
	keys    *os.File
	answers []string
}

func (p *prompts) Write(b []byte) (int, error) {
	if strings.HasSuffix(string(b), ": ") && len(p.answers) > 0 {
		if _, err := p.keys.WriteString(p.answers[0] + "\n"); err != nil {
			return 0, err
		}
		p.answers = p.answers[1:]
	}
	return p.Builder.Write(b)
}

func TestPasswdAsksTwiceOnATerminal(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []string
		code    int
		stderr  string
	}{
		{"the same twice", []string{"new secret", "new secret"}, 0, "Password: \nAgain: \n"},
		{"two that differ", []string{"new secret", "new secrets"}, exitFailed, "Password: \nAgain: \npostern: the two differ\n"},
		{"nothing", []string{"", ""}, exitFailed, "Password: \nAgain: \npostern: the password is empty\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, "", "")
			tty, keys := terminal(t)
			stderr := &prompts{keys: keys, answers: c.answers}
			var stdout strings.Builder

			code := run(t.Context(), []string{"passwd", "--config", file, "app"}, tty, &stdout, stderr)

			if code != c.code || stderr.String() != c.stderr {
				t.Errorf("got %d %q %q, want %d %q", code, stdout.String(), stderr.String(), c.code, c.stderr)
			}
			users, err := os.ReadFile(filepath.Join(filepath.Dir(file), "users.toml"))
			if err != nil {
				t.Fatal(err)
			}
			if same := strings.Contains(string(users), testHash); same != (c.code != 0) {
				t.Errorf("got the old password %v, want %v", same, c.code != 0)
			}
		})
	}
}

// failingReader is standard input that breaks off.
type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, os.ErrClosed }

func TestPasswdStopsWhereTheInputBreaks(t *testing.T) {
	file := writeConfig(t, "", "")
	users := filepath.Join(filepath.Dir(file), "users.toml")
	before, err := os.ReadFile(users)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	code := run(t.Context(), []string{"passwd", "--config", file, "app"}, failingReader{}, &stdout, &stderr)
	if code != exitFailed || stdout.String() != "" || !strings.Contains(stderr.String(), "file already closed") {
		t.Errorf("got %d %q %q, want what broke", code, stdout.String(), stderr.String())
	}

	for name, stdin := range map[string]string{"too long": strings.Repeat("x", 100_000) + "\n", "a control character": "a\x00b\n"} {
		code, stdout, stderr := execute(t, stdin, "passwd", "--config", file, "app")
		if code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "postern: password: ") {
			t.Errorf("%s: got %d %q %q, want that the password is refused", name, code, stdout, stderr)
		}
	}
	if after, err := os.ReadFile(users); err != nil || string(after) != string(before) {
		t.Errorf("got %q, %v, want the file as it was", after, err)
	}
}

// TestPasswdTakesTheLineAsItIs but for its end.
func TestPasswdTakesTheLineAsItIs(t *testing.T) {
	file := writeConfig(t, "", "")
	if code, _, stderr := execute(t, " a b \r\nmore\n", "passwd", "--config", file, "app"); code != 0 {
		t.Fatalf("got %d %q", code, stderr)
	}
	l := loadConfig(t, file)
	if ok := auth.CheckHash(l.Users[0].Password); ok != nil {
		t.Fatal(ok)
	}
	users, err := auth.NewUsers(auth.Rate{})
	if err != nil {
		t.Fatal(err)
	}
	if err := users.Replace([]auth.Entry{{User: relay.User{Name: "app"}, Password: l.Users[0].Password}}); err != nil {
		t.Fatal(err)
	}
	if _, err := users.Authenticate(t.Context(), auth.Credentials{Name: "app", Password: " a b "}); err != nil {
		t.Errorf("the line without its end: got %v, want that it is the password", err)
	}
}

func TestPasswdListsWhoCannotLogIn(t *testing.T) {
	file := writeConfig(t, "", "")
	users := filepath.Join(filepath.Dir(file), "users.toml")
	writeFile(t, filepath.Dir(file), "users.toml", "[[user]]\nname = \"a\"\nfrom_domains = [\"a.example\"]\n[[user]]\nname = \"b\"\nfrom_domains = [\"b.example\"]\npassword = \""+testHash+"\"\n")
	code, stdout, stderr := execute(t, "", "passwd", "--config", file, "--list")
	if want := "a\t(no password: cannot log in)\nb\n"; code != 0 || stdout != want || stderr != "" {
		t.Errorf("got %d %q %q, want %q", code, stdout, stderr, want)
	}

	writeFile(t, filepath.Dir(file), "users.toml", "[[user]]\nname = \"a\"\n[[user]]\nname = \"A\"\n")
	code, stdout, stderr = execute(t, "", "passwd", "--config", file, "--list")
	if code != exitFailed || !strings.HasPrefix(stdout, "a\t") || !strings.Contains(stderr, users+":4: user[1].name: ") {
		t.Errorf("two of one name: got %d %q %q, want both listed, and the second named", code, stdout, stderr)
	}

	code, _, stderr = execute(t, "", "passwd", "--config", file, "--delete", "a", "--list")
	if code != exitFailed || strings.Contains(stderr, "removed") {
		t.Errorf("--list and --delete: got %d %q, want the list alone", code, stderr)
	}
}
