package dkim

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
)

// zone is a resolver that knows some TXT records. A name that it does not hold
// is not found.
type zone map[string][]string

func (z zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	if txt, ok := z[name]; ok {
		return txt, nil
	}

	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// silent is a resolver that gets no answer for names that end so.
type silent struct {
	suffix string
	zone   zone
}

func (s silent) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if strings.HasSuffix(name, s.suffix) {
		return nil, &net.DNSError{Err: "timeout", Name: name, IsTimeout: true}
	}

	return s.zone.LookupTXT(ctx, name)
}

// broken is a resolver that fails in a way that is not the DNS's.
type broken struct{}

func (broken) LookupTXT(context.Context, string) ([]string, error) { return nil, errors.New("broken") }

// testKey is the Ed25519 key of RFC 8032's first test, as RFC 8463 has it.
func testKey(t testing.TB) (k Key, p string) {
	t.Helper()
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", ed25519.SeedSize)))
	value, err := RecordValue(private)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := strings.CutPrefix(value, "v=DKIM1; k=ed25519; p=")
	if !ok || len(p) != 44 {
		t.Fatalf("record %q", value)
	}

	return Key{Domain: "example.org", Selector: "s1", Private: private}, p
}

func TestCheckKeyComparesRecord(t *testing.T) {
	k, p := testKey(t)
	other := strings.Repeat("A", 43) + "="
	const name = "s1._domainkey.example.org"

	for _, c := range []struct {
		name   string
		record []string
		want   Finding
	}{
		{"the key", []string{"v=DKIM1; k=ed25519; p=" + p}, Finding{Good, "DKIM: " + name + " holds the key on disk"}},
		{"without v=", []string{"k=ed25519;p=" + p}, Finding{Good, "DKIM: " + name + " holds the key on disk"}},
		{"with white space everywhere", []string{" v = DKIM1 ;\tk = ed25519 ; p= " + p[:9] + " \t" + p[9:] + " ;"},
			Finding{Good, "DKIM: " + name + " holds the key on disk"}},
		{"other flags", []string{"v=DKIM1; k=ed25519; t=s; p=" + p}, Finding{Good, "DKIM: " + name + " holds the key on disk"}},
		{"testing", []string{"v=DKIM1; k=ed25519; t=s : y; p=" + p},
			Finding{Good, "DKIM: " + name + " holds the key on disk, in testing mode (t=y): verifiers may ignore failures"}},
		{"none", nil, Finding{Missing, "DKIM: " + name + " is not published; `postern dkim record` prints the record"}},
		{"no strings", []string{}, Finding{Missing, "DKIM: " + name + " is not published; `postern dkim record` prints the record"}},
		{"two", []string{"v=DKIM1; p=x", "v=DKIM1; p=" + p}, Finding{Wrong, "DKIM: " + name + " has 2 TXT records, verifiers want one"}},
		{"another version", []string{"v=DKIM2; k=ed25519; p=" + p}, Finding{Wrong, "DKIM: " + name + " begins with v=DKIM2, not v=DKIM1"}},
		{"no key", []string{"v=DKIM1; k=ed25519"}, Finding{Wrong, "DKIM: " + name + " has no p= tag"}},
		{"another text", []string{"google-site-verification"}, Finding{Wrong, "DKIM: " + name + " has no p= tag"}},
		{"revoked", []string{"v=DKIM1; k=ed25519; p="}, Finding{Wrong, "DKIM: " + name + " is revoked: its p= is empty"}},
		{"a type left out, which is rsa", []string{"v=DKIM1; p=" + p},
			Finding{Wrong, "DKIM: " + name + " is for a key of type rsa, the key on disk is ed25519"}},
		{"another type", []string{"v=DKIM1; k=x; p=" + p},
			Finding{Wrong, "DKIM: " + name + " is for a key of type x, the key on disk is ed25519"}},
		{"another key", []string{"v=DKIM1; k=ed25519; p=" + other},
			Finding{Wrong, "DKIM: " + name + " holds another key than the one on disk"}},
		{"half a key", []string{"v=DKIM1; k=ed25519; p=" + p[:41]},
			Finding{Wrong, "DKIM: " + name + " holds a broken key; was a part of it lost?"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			z := zone{}
			if c.record != nil {
				z[name] = c.record
			}
			if got := CheckKey(t.Context(), z, k); got != c.want {
				t.Errorf("got %v %q, want %v %q", got.Result, got.Text, c.want.Result, c.want.Text)
			}
		})
	}
}

// TestCheckKeyTakesRSAByDefault: k= may be left out (RFC 6376 section 3.6.1).
func TestCheckKeyTakesRSAByDefault(t *testing.T) {
	k := key(t, "rsa2048", "r")
	value, err := RecordValue(k.Private)
	if err != nil {
		t.Fatal(err)
	}
	value = strings.Replace(value, " k=rsa;", "", 1)

	got := CheckKey(t.Context(), zone{"r._domainkey.example.org": {value}}, k)
	if want := (Finding{Good, "DKIM: r._domainkey.example.org holds the key on disk"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCheckKeyRefusesOtherTypes(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := Key{Domain: "example.org", Selector: "s", Private: private}

	got := CheckKey(t.Context(), zone{"s._domainkey.example.org": {"v=DKIM1; p=x"}}, k)
	if want := (Finding{Wrong, "DKIM: dkim: neither RSA nor Ed25519"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := k.Kind(); got != "unknown" {
		t.Errorf("kind %q, want unknown", got)
	}
}

func TestCheckSPF(t *testing.T) {
	for _, c := range []struct {
		name   string
		record []string
		want   Finding
	}{
		{"one", []string{"x", "v=spf1 -all"}, Finding{Good, `SPF: example.org has "v=spf1 -all"`}},
		{"without a mechanism", []string{"v=spf1"}, Finding{Good, `SPF: example.org has "v=spf1"`}},
		{"none", []string{"v=spf10 -all", "v=spf2.0/pra -all", "spf1"},
			Finding{Missing, "SPF: example.org has no record; publish one that names the addresses that send for it, " +
				`such as "v=spf1 ip4:192.0.2.0/24 -all"`}},
		{"two", []string{"v=spf1 -all", "v=spf1"},
			Finding{Wrong, "SPF: example.org has 2 records, which verifiers treat as an error; keep one"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := CheckSPF(t.Context(), zone{"example.org": c.record}, "example.org"); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestCheckDMARCAsksParents(t *testing.T) {
	none := Finding{Missing, `DMARC: a.b.example.org has no record; publish "v=DMARC1; p=none; rua=mailto:..." ` +
		"at _dmarc.a.b.example.org to begin with"}

	for _, c := range []struct {
		name string
		zone zone
		want Finding
	}{
		{"its own before its parent's", zone{"_dmarc.a.b.example.org": {"x", "v=DMARC1; p=reject"}, "_dmarc.example.org": {"v=DMARC1; p=none"}},
			Finding{Good, "DMARC: a.b.example.org has policy p=reject"}},
		{"the parent's", zone{"_dmarc.b.example.org": {"v=DMARC1;p=quarantine"}}, Finding{Good, "DMARC: b.example.org has policy p=quarantine"}},
		{"of the organization", zone{"_dmarc.example.org": {"v=DMARC1; p=none; rua=mailto:a@example.org"}},
			Finding{Good, "DMARC: example.org has policy p=none: it reports, and lets forgeries through"}},
		{"not of the top level", zone{"_dmarc.org": {"v=DMARC1; p=reject"}}, none},
		{"another record", zone{"_dmarc.a.b.example.org": {"v=spf1 -all"}}, none},
		{"none", zone{}, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := checkDMARC(t.Context(), c.zone, "a.b.example.org"); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestCheckSaysWhereTheDNSIsSilent: no answer says nothing of the record.
func TestCheckSaysWhereTheDNSIsSilent(t *testing.T) {
	k, p := testKey(t)
	z := zone{
		"s1._domainkey.example.org": {"v=DKIM1; k=ed25519; p=" + p},
		"example.org":               {"v=spf1 -all"},
		"_dmarc.example.org":        {"v=DMARC1; p=reject"},
	}
	const noAnswer = " the DNS does not answer for "

	for _, c := range []struct {
		name     string
		resolver Resolver
		want     []Result
		text     string
	}{
		{"all is well", z, []Result{Good, Good, Good}, ""},
		{"nothing is published", zone{}, []Result{Missing, Missing, Missing}, ""},
		{"no answer for the key", silent{"_domainkey.example.org", z}, []Result{Unknown, Good, Good}, "DKIM:" + noAnswer + "s1._domainkey.example.org: "},
		{"no answer for the policy", silent{"_dmarc.example.org", z}, []Result{Good, Good, Unknown}, "DMARC:" + noAnswer + "_dmarc.example.org: "},
		{"no answer at all", silent{"", z}, []Result{Unknown, Unknown, Unknown}, "SPF:" + noAnswer + "example.org: "},
		{"a failure", broken{}, []Result{Unknown, Unknown, Unknown}, "SPF:" + noAnswer + "example.org: broken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []Result
			var text []string
			for _, f := range Check(t.Context(), c.resolver, k) {
				got = append(got, f.Result)
				text = append(text, f.Text)
			}
			if !reflect.DeepEqual(got, c.want) || !strings.Contains(strings.Join(text, "\n"), c.text) {
				t.Errorf("got %v %q, want %v with %q", got, text, c.want, c.text)
			}
		})
	}
}

func TestResultString(t *testing.T) {
	for r, want := range map[Result]string{Good: "ok", Missing: "missing", Wrong: "wrong", Unknown: "no answer"} {
		if got := r.String(); got != want {
			t.Errorf("result %d is %q, want %q", r, got, want)
		}
	}
}
