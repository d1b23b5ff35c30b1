package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/postern/demo/sink"
)

// TestClients submits with the mail programs that applications use, each
// verifying the certificate by the local CA's file, and looks at what arrived.
// swaks, curl and Python's smtplib have tests of their own.
func TestClients(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.start(t)
	ca := filepath.Join(g.dir, "state", "certs", "ca.crt")
	host, port, _ := strings.Cut(g.submission, ":")
	message := "From: a@example.com\nTo: reader@example.net\nSubject: by a client\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\n<html><body><p>grüße</p><a href=\"https://example.com/?a=1&amp;b=2\">go</a></body></html>\n"
	arrived := 0
	for _, c := range []struct {
		name string
		send func(t *testing.T)
	}{
		{"msmtp", func(t *testing.T) {
			need(t, "msmtp")
			run(t, message, "msmtp", "--file=/dev/null", "--host="+host, "--port="+port, "--tls=on", "--tls-starttls=on", "--tls-trust-file="+ca, "--auth=plain", "--user="+g.user, "--passwordeval=echo '"+g.password+"'", "--from=a@example.com", "reader@example.net")
		}},
		{"s-nail", func(t *testing.T) {
			need(t, "s-nail")
			rc := filepath.Join(t.TempDir(), "nailrc")
			writeFile(t, rc, fmt.Sprintf("set v15-compat\nset from=a@example.com\nset smtp-use-starttls\nset smtp-auth=login\nset tls-ca-file=%s\nset tls-verify=strict\nset nosave\nset mta=smtp://%s:%s@localhost:%s\n", ca, g.user, strings.ReplaceAll(g.password, " ", "%20"), port))
			run(t, "<html><body><p>hello</p><a href=\"https://example.com/?a=1&amp;b=2\">go</a></body></html>\n", "env", "MAILRC="+rc, "s-nail", "-:u", "-M", "text/html", "-s", "by a client", "reader@example.net")
		}},
		{"nodemailer", func(t *testing.T) {
			need(t, "node")
			needNode(t, "nodemailer")
			script := `require("nodemailer").createTransport({host: "localhost", port: +process.argv[1], requireTLS: true, tls: {ca: require("fs").readFileSync(process.argv[2])}, auth: {user: process.argv[3], pass: process.argv[4]}})
.sendMail({from: "a@example.com", to: "reader@example.net", subject: "by a client", html: '<html><body><p>grüße</p><a href="https://example.com/?a=1&amp;b=2">go</a></body></html>'}).then(i => console.log(i.response), e => { console.error(e); process.exit(1) })`
			run(t, "", "env", "NODE_PATH="+nodePath, "node", "-e", script, port, ca, g.user, g.password)
		}},
		{"Postfix", func(t *testing.T) {
			need(t, "postfix")
			passwords := filepath.Join(t.TempDir(), "passwords")
			if err := os.Chmod(filepath.Dir(passwords), 0o755); err != nil {
				t.Fatal(err)
			}
			writeFile(t, passwords, fmt.Sprintf("[localhost]:%s %s:%s\n", port, g.user, g.password))
			pfx, _ := postfix(t, g.submission, fmt.Sprintf("relayhost = [localhost]:%[1]s\ndefault_transport = smtp\ntransport_maps =\nsmtp_tls_security_level = secure\nsmtp_tls_CAfile = %[2]s\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_security_options = noanonymous\nsmtp_sasl_password_maps = texthash:%[3]s\nsmtp_host_lookup = native\ndisable_dns_lookups = yes", port, ca, passwords))
			c := &session{}
			defer dialPlain(t, c, pfx)()
			for _, line := range []string{"EHLO client.example", "MAIL FROM:<a@example.com>", "RCPT TO:<reader@example.net>"} {
				if code, text, err := c.command(line); err != nil || code != 250 {
					t.Fatalf("%s: %d %s %v", line, code, text, err)
				}
			}
			if code, text, err := c.command("DATA"); err != nil || code != 354 {
				t.Fatalf("%d %s %v", code, text, err)
			}
			if code, text, err := c.command(strings.ReplaceAll(message, "\n", "\r\n") + "."); err != nil || code != 250 {
				t.Fatalf("%d %s %v", code, text, err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.send(t)
			arrived++
			m := s.wait(t, arrived)
			g.verifyDKIM(t, m.Data)
			if m.To != "reader@example.net" || !bytes.Contains(m.Data, []byte("Subject: by a client")) || !bytes.Contains(m.Data, []byte(g.tracker+"/t/")) {
				t.Errorf("to %s:\n%s", m.To, m.Data)
			}
		})
	}
	g.stop(t)
}

// nodePath is where Debian's packages put modules.
const nodePath = "/usr/share/nodejs"

func needNode(t *testing.T, module string) {
	t.Helper()
	c := exec.Command("node", "-e", "require("+fmt.Sprintf("%q", module)+")")
	c.Env = append(os.Environ(), "NODE_PATH="+nodePath)
	if err := c.Run(); err != nil {
		absent(t, "node's "+module)
	}
}

// TestAuthUpstream: the upstream decides, its words reach the client, and the
// session's mail goes over its own connection.
func TestAuthUpstream(t *testing.T) {
	need(t, "swaks")
	s := startSink(t, sink.Config{Password: "ann:open sesame"})
	g := newGateway(t, s.addr, "")
	text := strings.Replace(readFile(t, g.config), "[submission]\n", "[submission]\nauth = \"upstream\"\nauth_failure_rate = \"3/min\"\n", 1)
	writeFile(t, g.config, text)
	if err := os.Remove(filepath.Join(g.dir, "users.toml")); err != nil {
		t.Fatal(err)
	}
	run(t, "", postern, "check", "--config", g.config)
	g.start(t)
	swaks := func(password string) (string, error) {
		return try("", "swaks", "--server", g.submission, "--tls", "--auth", "PLAIN", "--auth-user", "ann", "--auth-password", password, "--from", "a@example.com", "--to", "b@example.net")
	}
	if out, err := swaks("open sesame"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if m := s.wait(t, 1); m.To != "b@example.net" {
		t.Errorf("%+v", m)
	}
	for range 3 {
		if out, err := swaks("wrong"); err == nil || !strings.Contains(out, "535") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if out, err := swaks("wrong"); err == nil || !strings.Contains(out, "454 4.7.0") {
		t.Errorf("guessing goes on: %v\n%s", err, out)
	}
	writeFile(t, g.config, strings.Replace(text, "upstream = [\""+s.addr, "upstream = [\"192.0.2.1:25", 1))
	if out, err := try("", postern, "check", "--config", g.config); err == nil || !strings.Contains(out, `without verified TLS; write relay.tls = "required"`) {
		t.Errorf("check lets passwords go in plain: %s", out)
	}
	g.stop(t)
}

// TestAuthUpstreamHoldsUsers: where a user is held to domains, no other name, and
// no other spelling of its own, gets out of that.
func TestAuthUpstreamHoldsUsers(t *testing.T) {
	s := startSink(t, sink.Config{Password: "ann:open sesame"})
	g := newGateway(t, s.addr, "")
	text := strings.Replace(readFile(t, g.config), "[submission]\n", "[submission]\nauth = \"upstream\"\n", 1)
	writeFile(t, g.config, text)
	users := func(name string) {
		writeFile(t, filepath.Join(g.dir, "users.toml"), fmt.Sprintf("[[user]]\nname = %q\nfrom_domains = [\"allowed.example\"]\n", name))
	}
	submit := func(from string) (int, string) {
		c := &client{addr: g.submission, user: "ann", pass: "open sesame"}
		defer c.close()
		return c.send(from, []string{"b@example.net"}, strings.Replace(newsletter, "news@example.com", from, 1))
	}
	for _, c := range []struct {
		name, listed, config, from string
		code                       int
		reply                      string
	}{
		{"not listed", "other", text, "a@allowed.example", 0, "535 5.7.8 Authentication credentials invalid"},
		{"listed in capitals, of another domain", "ANN", text, "a@example.com", 550, "may not send"},
		{
			"by the default user, of another domain", "other",
			strings.Replace(text, "[submission]\n", "[submission]\ndefault_user = \"Other\"\n", 1),
			"a@example.com", 550, "may not send",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			users(c.listed)
			writeFile(t, g.config, c.config)
			g.start(t)
			code, reply := submit(c.from)
			if code != c.code || !strings.Contains(reply, c.reply) {
				t.Errorf("%d %s, want %d %s", code, reply, c.code, c.reply)
			}
			g.stop(t)
		})
	}
	if n := len(s.messages()); n != 0 {
		t.Errorf("%d messages at the sink", n)
	}
}
