package integration

import (
	"net/http"
	"strings"
	"testing"

	"postern/cmd/postern/demo/sink"
)

// TestCheckOnlineAsksTheWorld runs check --online where everything is as it
// should be, and then where nothing is.
func TestCheckOnlineAsksTheWorld(t *testing.T) {
	s := startSink(t, sink.Config{})
	_, extra := withReports(t, "")
	g := newGateway(t, s.addr, "[relay.timeouts]\nconnect = \"5s\"\n"+extra)
	writeFile(t, g.dir+"/users.toml", readFile(t, g.dir+"/users.toml")+"from_domains = [\"example.com\"]\n")
	g.start(t)

	dns := dnsServer(t, map[string][]string{
		"s1._domainkey.example.com": {g.record},
		"example.com":               {"v=spf1 ip4:192.0.2.0/24 -all"},
		"bounces.example.com":       {"MX gw.example.com"},
		"fbl.example.com":           {"MX other.example.net"},
	})
	out := run(t, "", postern, "check", "--config", g.config, "--online", "--dns", dns)
	for _, want := range []string{
		"ok      upstream " + s.addr + " takes mail: plain text, no login",
		"ok      DKIM: s1._domainkey.example.com holds the key on disk",
		"ok      MX: bounces.example.com leads to gw.example.com",
		`ok      SPF: example.com has "v=spf1 ip4:192.0.2.0/24 -all"`,
		"takes the API key",
		"ok, this tracker answers",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("all is well: no %q in\n%s", want, out)
		}
	}

	g.ingest.Key = strings.Repeat("0", 40)
	text := readFile(t, g.config)
	writeFile(t, g.config, strings.Replace(text, s.addr, freePort(t), 1))
	out, err := try("", postern, "check", "--config", g.config, "--online", "--dns", dnsServer(t, map[string][]string{}))
	if err == nil {
		t.Error("all is said to be well")
	}
	for _, want := range []string{
		"failed  upstream ",
		"connection refused",
		"failed  DKIM: s1._domainkey.example.com is not published",
		"failed  MX: bounces.example.com has no record",
		`publish "bounces.example.com. MX 10 gw.example.com."`,
		"failed  SPF: example.com has no record",
		"refuses the API key (HTTP 401)",
		"online checks failed",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing is well: no %q in\n%s", want, out)
		}
	}

	if status, _ := g.get("/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
	g.stop(t)
}
