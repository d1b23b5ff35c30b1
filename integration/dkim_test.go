package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/dkim"
	"postern/integration/dnsd"

	"postern/relay/message"
)

// dnsServer answers TXT and A questions on loopback, by UDP and TCP.
func dnsServer(t *testing.T, txt map[string][]string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { dnsd.Serve(ctx, c, txt) })
	wg.Go(func() { dnsd.ServeTCP(ctx, l, txt) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c.LocalAddr().String()
}

// TestDKIMCorpus signs every message of the corpus, RSA and Ed25519, and asks
// verifiers that are not ours: python3-dkim and Mail::DKIM (which knows no
// Ed25519 here). go-msgauth's turn is in package dkim.
func TestDKIMCorpus(t *testing.T) {
	needPython(t, "dkim")
	needPython(t, "nacl")
	if err := exec.Command("perl", "-MMail::DKIM::Verifier", "-e", "1").Run(); err != nil {
		absent(t, "Mail::DKIM")
	}
	var keys []dkim.Key
	txt := map[string][]string{}
	var records string
	for _, kind := range []string{"rsa2048", "ed25519"} {
		private, _, err := dkim.Generate(kind)
		if err != nil {
			t.Fatal(err)
		}
		k, _ := dkim.Key{Domain: "signer.example", Selector: kind, Private: private}.Fast(dkim.RSAAuto)
		value, err := dkim.RecordValue(private)
		if err != nil {
			t.Fatal(err)
		}
		name := dkim.RecordName(k.Domain, k.Selector)
		txt[name], records = []string{value}, records+name+" "+value+"\n"
		keys = append(keys, k)
	}
	dir := t.TempDir()
	files, err := filepath.Glob("../tracking/rewrite/testdata/corpus/messages/*")
	if err != nil {
		t.Fatal(err)
	}
	signed := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := message.ReadMessage(bytes.NewReader(data), message.ReadConfig{NormaliseLF: true})
		if err != nil || !submissible(msg) {
			continue
		}
		header, body, _ := message.Split(msg)
		for _, k := range keys {
			sig, err := dkim.Sign([]dkim.Key{k}, header, body, dkim.Times{Signed: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s.%s", filepath.Base(f), k.Selector)), append(sig, msg...), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		signed++
	}
	const python = `
import sys, os, dkim
records = dict(line.split(" ", 1) for line in sys.stdin.read().splitlines())
bad = n = 0
for name in sorted(os.listdir(sys.argv[1])):
    message = open(os.path.join(sys.argv[1], name), "rb").read()
    n += 1
    try:
        ok = dkim.DKIM(message).verify(0, dnsfunc=lambda q, timeout=5: records[q.decode().rstrip(".")].encode())
    except Exception as e:
        ok = False
        print(name, e)
    if not ok:
        bad += 1
        print("fail", name)
print(n, "checked,", bad, "bad")
`
	out := run(t, records, systemPython, "-c", python, dir)
	if !strings.Contains(out, fmt.Sprintf("%d checked, 0 bad", 2*signed)) {
		t.Errorf("python3-dkim: %s", out)
	}
	const perl = `
use Mail::DKIM::Verifier; use Net::DNS::Resolver;
my ($dir, $host, $port) = @ARGV;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [$host], port => $port, recurse => 1));
my ($n, $bad) = (0, 0);
for my $f (sort glob("$dir/*.rsa2048")) {
    open my $fh, "<:raw", $f or die; local $/; my $m = <$fh>;
    my $v = Mail::DKIM::Verifier->new; $v->PRINT($m); $v->CLOSE;
    my ($s) = grep { $_->domain eq "signer.example" } $v->signatures;
    $n++; next if $s && $s->result eq "pass";
    $bad++; print "fail $f ", ($s ? $s->result_detail : "no signature"), "\n";
}
print "$n checked, $bad bad\n";
`
	host, port, _ := strings.Cut(dnsServer(t, txt), ":")
	if out := run(t, "", "perl", "-e", perl, dir, host, port); !strings.Contains(out, fmt.Sprintf("%d checked, 0 bad", signed)) {
		t.Errorf("Mail::DKIM: %s", out)
	}
	t.Logf("%d messages signed by two keys; python3-dkim checked %d, Mail::DKIM %d", signed, 2*signed, signed)
}

// submissible is what the listener asks of a header.
func submissible(msg []byte) bool {
	header, _, separated := message.Split(msg)
	from := 0
	for _, f := range message.Fields(header) {
		if f.Name == "" {
			return false
		}
		if f.Is("From") {
			from++
		}
	}
	return separated && from == 1
}

// TestDKIMVerify asks `postern dkim verify` about domains in several states.
func TestDKIMVerify(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "k.pem")
	run(t, "", postern, "dkim", "keygen", "--domain", "good.example", "--selector", "s", "--out", file)
	args := []string{"--selector", "s", "--key", file}
	value := strings.TrimSpace(run(t, "", postern, append([]string{"dkim", "record", "--plain", "--domain", "good.example"}, args...)...))
	other := strings.Replace(value, value[len(value)-30:len(value)-20], "AAAAAAAAAA", 1)
	server := dnsServer(t, map[string][]string{
		"s._domainkey.good.example": {value}, "good.example": {"v=spf1 -all", "something else"}, "_dmarc.good.example": {"v=DMARC1; p=reject"},
		"s._domainkey.other.example": {other}, "other.example": {"v=spf1 -all", "v=spf1 ~all"},
		"s._domainkey.gone.example": {"v=DKIM1; p="},
	})
	for _, c := range []struct {
		domain string
		ok     bool
		want   []string
	}{
		{"good.example", true, []string{"s._domainkey.good.example holds the key on disk", `SPF: good.example has "v=spf1 -all"`, "DMARC: good.example has policy p=reject"}},
		{"other.example", false, []string{"holds another key than the one on disk", "has 2 records", "DMARC: other.example has no record"}},
		{"gone.example", false, []string{"is revoked", "SPF: gone.example has no record"}},
		{"none.example", false, []string{"is not published"}},
	} {
		out, err := try("", postern, append([]string{"dkim", "verify", "--domain", c.domain, "--dns", server}, args...)...)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.domain, err)
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", c.domain, w, out)
			}
		}
	}
	msg := filepath.Join(dir, "m.eml")
	if err := os.WriteFile(msg, []byte("From: a@good.example\nSubject: x\n\nbody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	signed := run(t, "", postern, append([]string{"dkim", "sign", msg, "--domain", "good.example"}, args...)...)
	if !strings.HasPrefix(signed, "DKIM-Signature: v=1; a=rsa-sha256;") || !strings.HasSuffix(signed, "\r\nbody\r\n") {
		t.Errorf("signed: %q", signed)
	}

	silent := freePort(t) // nobody answers there
	out, err := try("", postern, append([]string{"dkim", "verify", "--domain", "good.example", "--dns", silent}, args...)...)
	if err == nil {
		t.Error("a DNS that does not answer is taken for success")
	}
	for _, want := range []string{"no answer  DKIM: the DNS does not answer", "on " + silent, "3 of 3 DNS checks got no answer"} {
		if !strings.Contains(out, want) {
			t.Errorf("without a DNS: no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "missing") || strings.Contains(out, "failed") {
		t.Errorf("without a DNS the records are said to be missing:\n%s", out)
	}
}
