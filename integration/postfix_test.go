package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// startPostfix runs a Postfix of its own on a loopback port, which hands all
// mail for example.net to next and refuses nobody@example.net. routes leads
// further domains elsewhere.
func startPostfix(t *testing.T, next string, routes ...route) (addr string) {
	t.Helper()
	addr, _ = postfix(t, next, "", routes...)
	return addr
}

// postfix is startPostfix with more settings; it gives the folder of its
// configuration too.
func postfix(t *testing.T, next, settings string, routes ...route) (addr, conf string) {
	t.Helper()
	need(t, "postfix")
	if os.Getuid() != 0 {
		absent(t, "root, which Postfix wants,")
	}
	dir, err := os.MkdirTemp("", "postern-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix's own user looks into it
		t.Fatal(err)
	}
	addr = freePort(t)
	conf = filepath.Join(dir, "conf")
	for _, d := range []string{"conf", "queue", "data"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "", "chown", "postfix", filepath.Join(dir, "data"))
	domains, transports := "example.net", "example.net smtp:[127.0.0.1]:"+portOf(next)+"\n"
	for _, r := range routes {
		domains += ", " + r.domain
		transports += r.domain + " smtp:[127.0.0.1]:" + portOf(r.addr) + "\n"
	}
	main := fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
myhostname = postfix.example.org
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
relay_domains = %[2]s
relay_recipient_maps =
smtpd_recipient_restrictions = check_recipient_access inline:{{nobody@example.net=550 5.1.1 no such person}}, permit_mynetworks, reject
transport_maps = texthash:%[1]s/conf/transport
smtpd_client_connection_count_limit = 0
smtp_tls_security_level = none
smtputf8_enable = no
%[3]s
`, dir, domains, settings)
	master := fmt.Sprintf(`%s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
`, addr)
	for name, text := range map[string]string{"main.cf": main, "master.cf": master, "transport": transports} {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "", "postfix", "-c", conf, "start")
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("Postfix's log:\n%s", log)
		}
		try("", "postfix", "-c", conf, "stop")
	})
	return addr, conf
}

// route leads mail for a domain to a loopback address.
type route struct{ domain, addr string }

func portOf(addr string) string {
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == ':' {
			return addr[i+1:]
		}
	}
	return addr
}
