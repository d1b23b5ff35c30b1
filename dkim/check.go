package dkim

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Resolver looks up TXT records; *net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Result is the result of checking one DNS record.
type Result int

// The results of Check.
const (
	Good    Result = iota // the record is right
	Missing               // there is no such record
	Wrong                 // there is one, and it is wrong
	Unknown               // the DNS did not answer
)

// String returns the word that commands print.
func (r Result) String() string {
	return [...]string{"ok", "missing", "wrong", "no answer"}[r]
}

// Finding is the result of one check, with a sentence for people.
type Finding struct {
	Result Result
	Text   string
}

// Check looks up the published key and compares it with k, and looks up the SPF
// and the DMARC record of the domain.
func Check(ctx context.Context, r Resolver, k Key) []Finding {
	return []Finding{CheckKey(ctx, r, k), CheckSPF(ctx, r, k.Domain), checkDMARC(ctx, r, k.Domain)}
}

// say returns a finding with this result.
func (r Result) say(format string, args ...any) Finding {
	return Finding{Result: r, Text: fmt.Sprintf(format, args...)}
}

// lookup returns the TXT records of a name, and none if it does not exist.
func lookup(ctx context.Context, r Resolver, name string) ([]string, error) {
	txt, err := r.LookupTXT(ctx, name)

	var e *net.DNSError
	if errors.As(err, &e) && e.IsNotFound {
		return nil, nil
	}

	return txt, err
}

// tags reads tag=value pairs (RFC 6376 section 3.2).
func tags(s string) map[string]string {
	out := map[string]string{}
	for _, t := range strings.Split(s, ";") {
		if k, v, ok := strings.Cut(t, "="); ok {
			out[strings.TrimSpace(k)] = strings.Join(strings.Fields(v), "")
		}
	}

	return out
}

// CheckKey looks up the published key and compares it with k.
func CheckKey(ctx context.Context, r Resolver, k Key) Finding {
	name := RecordName(k.Domain, k.Selector)
	txt, err := lookup(ctx, r, name)
	if err != nil {
		return Unknown.say("DKIM: the DNS does not answer for %s: %v", name, err)
	}

	want, err := RecordValue(k.Private)
	if err != nil {
		return Wrong.say("DKIM: %v", err)
	}

	switch {
	case len(txt) == 0:
		return Missing.say("DKIM: %s is not published; `postern dkim record` prints the record", name)
	case len(txt) > 1:
		return Wrong.say("DKIM: %s has %d TXT records, verifiers want one", name, len(txt))
	}

	got, ours := tags(txt[0]), tags(want)
	kind := got["k"]
	if kind == "" {
		kind = "rsa"
	}

	switch p, published := got["p"]; {
	case got["v"] != "" && got["v"] != "DKIM1":
		return Wrong.say("DKIM: %s begins with v=%s, not v=DKIM1", name, got["v"])
	case !published:
		return Wrong.say("DKIM: %s has no p= tag", name)
	case p == "":
		return Wrong.say("DKIM: %s is revoked: its p= is empty", name)
	case kind != ours["k"]:
		return Wrong.say("DKIM: %s is for a key of type %s, the key on disk is %s", name, kind, ours["k"])
	case p != ours["p"]:
		if _, err := base64.StdEncoding.DecodeString(p); err != nil {
			return Wrong.say("DKIM: %s holds a broken key; was a part of it lost?", name)
		}
		return Wrong.say("DKIM: %s holds another key than the one on disk", name)
	case hasFlag(got["t"], "y"):
		return Good.say("DKIM: %s holds the key on disk, in testing mode (t=y): verifiers may ignore failures", name)
	}

	return Good.say("DKIM: %s holds the key on disk", name)
}

// hasFlag reports whether a list separated by colons has a flag.
func hasFlag(list, flag string) bool {
	return slices.Contains(strings.Split(list, ":"), flag)
}

// CheckSPF looks up the SPF record of a domain (RFC 7208 section 3).
func CheckSPF(ctx context.Context, r Resolver, domain string) Finding {
	txt, err := lookup(ctx, r, domain)
	if err != nil {
		return Unknown.say("SPF: the DNS does not answer for %s: %v", domain, err)
	}

	var spf []string
	for _, t := range txt {
		if t == "v=spf1" || strings.HasPrefix(t, "v=spf1 ") {
			spf = append(spf, t)
		}
	}

	switch len(spf) {
	case 0:
		return Missing.say("SPF: %s has no record; publish one that names the addresses that send for it, "+
			"such as \"v=spf1 ip4:192.0.2.0/24 -all\"", domain)
	case 1:
		return Good.say("SPF: %s has %q", domain, spf[0])
	}

	return Wrong.say("SPF: %s has %d records, which verifiers treat as an error; keep one", domain, len(spf))
}

// checkDMARC looks up the DMARC record of a domain or, if it has none, of its
// parents, whose policy holds for it then (RFC 7489 section 6.6.3).
func checkDMARC(ctx context.Context, r Resolver, domain string) Finding {
	for d := domain; strings.Contains(d, "."); _, d, _ = strings.Cut(d, ".") {
		txt, err := lookup(ctx, r, "_dmarc."+d)
		if err != nil {
			return Unknown.say("DMARC: the DNS does not answer for _dmarc.%s: %v", d, err)
		}

		for _, t := range txt {
			if !strings.HasPrefix(t, "v=DMARC1") {
				continue
			}

			if tags(t)["p"] == "none" {
				return Good.say("DMARC: %s has policy p=none: it reports, and lets forgeries through", d)
			}
			return Good.say("DMARC: %s has policy p=%s", d, tags(t)["p"])
		}
	}

	return Missing.say("DMARC: %s has no record; "+
		"publish \"v=DMARC1; p=none; rua=mailto:...\" at _dmarc.%s to begin with", domain, domain)
}
