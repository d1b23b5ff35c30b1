package relay

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"postern/relay/envelope"
)

func TestReturnPath(t *testing.T) {
	rules := []RewriteRule{{"vip@example.com", "vip-bounces@b.example"}, {"*@example.com", "*@bounces.example.com"}, {"*@*.example.org", "*@bounces.example.org"}}
	for _, c := range []struct{ name, from, verp, want string }{
		{"exact before pattern", "vip@example.com", "", "vip-bounces@b.example"},
		{"any local part", "a.b@EXAMPLE.com", "", "a.b@bounces.example.com"},
		{"below", "x@news.example.org", "", "x@bounces.example.org"},
		{"not the domain itself", "x@example.org", "", "x@example.org"},
		{"the null path", "", "v.example", ""},
		{"VERP over the rewriting", "a@example.com", "v.example", "bounce+ID@v.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Routes.Rewrite, conf.Routes.VERPDomain = rules, c.verp })
			s := submission(htmlMessage, "a")
			s.Envelope.From, _ = envelope.FromUnquoted(c.from)
			b.relay.Submit(context.Background(), s)
			got := b.up.got[0].From.String()
			id := b.rec.events[0].MessageID
			if got = strings.Replace(got, id, "ID", 1); got != c.want {
				t.Errorf("%s goes out as %s, want %s", c.from, got, c.want)
			}
		})
	}
}

func TestTrackingRules(t *testing.T) {
	no := false
	rules := []TrackingRule{{Pattern: "*.customer1.example", URL: "https://click.customer1.example", Open: &no}, {Pattern: "vip.customer1.example", Click: &no}, {Pattern: "*", InitialOpen: &no}}
	for _, c := range []struct {
		name, from, sender string
		user               bool
		api                string
		want               Tracking
	}{
		{"the most specific: exact", "a@vip.customer1.example", "", true, "", Tracking{"https://t.example", true, true, false}},
		{"the longest pattern", "a@news.customer1.example", "", true, "", Tracking{"https://click.customer1.example", false, true, true}},
		{"the catch-all", "a@other.example", "", true, "", Tracking{"https://t.example", true, false, true}},
		{"Sender before From", "a@other.example", "b@vip.customer1.example", true, "", Tracking{"https://t.example", true, true, false}},
		{"X-MSYS-API before rules", "a@vip.customer1.example", "", true, `{"options":{"click_tracking":true}}`, Tracking{"https://t.example", true, true, true}},
		{"the user's no before all", "a@vip.customer1.example", "", false, `{"options":{"click_tracking":true}}`, Tracking{"https://t.example", false, false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Tracking.Rules, conf.Headers.MsysAPI = rules, true })
			header := "From: " + c.from + "\r\n"
			if c.sender != "" {
				header += "Sender: " + c.sender + "\r\n"
			}
			if c.api != "" {
				header += "X-MSYS-API: " + c.api + "\r\n"
			}
			p, err := b.relay.applyPolicy([]byte(header), User{})
			if err != nil {
				t.Fatal(err)
			}
			if got := b.relay.trackingFor(User{Tracking: c.user}, &p); got != c.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestTrackingCombinations tries every combination of what may speak of
// tracking against the order that is documented: the user's no, X-MSYS-API, the sending
// domain's rule, [tracking].
func TestTrackingCombinations(t *testing.T) {
	set := func(b bool) *bool { return &b }
	three := []*bool{nil, set(true), set(false)}
	show := func(b *bool) string {
		if b == nil {
			return "-"
		}
		return strconv.FormatBool(*b)
	}
	first := func(all bool, said ...*bool) bool {
		for _, b := range said {
			if b != nil {
				return *b
			}
		}
		return all
	}
	n := 0
	for _, user := range []bool{true, false} {
		for _, all := range []bool{true, false} {
			for _, rule := range three {
				for _, apiOpen := range three {
					for _, apiClick := range three {
						name := fmt.Sprintf("user %v, all %v, rule %s, API open %s click %s", user, all, show(rule), show(apiOpen), show(apiClick))
						b := newBench(t, func(c *Config) {
							c.Headers.MsysAPI = true
							c.Tracking.Default = Tracking{URL: "https://t.example", Open: all, InitialOpen: all, Click: all}
							c.Tracking.Rules = []TrackingRule{{Pattern: "a.example", Open: rule, InitialOpen: rule, Click: rule}}
						})
						options := []string{}
						if apiOpen != nil {
							options = append(options, `"open_tracking":`+show(apiOpen))
						}
						if apiClick != nil {
							options = append(options, `"click_tracking":`+show(apiClick))
						}
						p, err := b.relay.applyPolicy([]byte("From: x@a.example\r\nX-MSYS-API: {\"options\":{"+strings.Join(options, ",")+"}}\r\n"), User{})
						if err != nil {
							t.Fatal(name, err)
						}
						// open_tracking: false is no pixel at all; true says nothing of the first one.
						noPixel := apiOpen != nil && !*apiOpen
						want := Tracking{URL: "https://t.example", Open: user && first(all, apiOpen, rule), InitialOpen: user && !noPixel && first(all, rule), Click: user && first(all, apiClick, rule)}
						if got := b.relay.trackingFor(User{Tracking: user}, &p); got != want {
							t.Errorf("%s: %+v, want %+v", name, got, want)
						}
						n++
					}
				}
			}
		}
	}
	if n != 108 {
		t.Errorf("%d combinations", n)
	}
}

// TestRewriteRules: each side of a rule, and the order of rules.
func TestRewriteRules(t *testing.T) {
	for _, c := range []struct{ from, to, in, want string }{
		{"a@b.example", "c@d.example", "a@b.example", "c@d.example"},
		{"a@b.example", "c@d.example", "x@b.example", "x@b.example"},
		{"a@b.example", "c@d.example", "a@x.example", "a@x.example"},
		{"A@b.example", "c@d.example", "a@b.example", "a@b.example"},
		{"*@b.example", "*@d.example", "a@b.example", "a@d.example"},
		{"*@b.example", "c@*", "a@b.example", "c@b.example"},
		{"*@*", "*@d.example", "a@b.example", "a@d.example"},
		{"a@c@b.example", "x@y.example", `"a@c"@b.example`, "x@y.example"},
		{"b.example", "x@y.example", "b@b.example", "b@b.example"},
	} {
		b := newBench(t, func(conf *Config) {
			conf.Routes.Rewrite = []RewriteRule{{From: c.from, To: c.to}, {From: "*@never.example", To: "*@x.example"}}
		})
		in, err := envelope.Parse(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.relay.returnPath(in).String(); got != c.want {
			t.Errorf("%s -> %s: %s goes out as %s, want %s", c.from, c.to, c.in, got, c.want)
		}
	}

	for in, want := range map[string][2]string{"a@b": {"a", "b"}, "a@b@c": {"a@b", "c"}, "@b": {"", "b"}, "a@": {"a", ""}, "a": {"a", ""}, "": {"", ""}} {
		if local, domain := cutAddress(in); local != want[0] || domain != want[1] {
			t.Errorf("cutAddress(%q) = %q, %q, want %q", in, local, domain, want)
		}
	}
}

// TestMostSpecific: exact before the longest, the longest before the rest.
func TestMostSpecific(t *testing.T) {
	for _, c := range []struct {
		domain   string
		patterns []string
		want     string
	}{
		{"a.b.example", []string{"*", "*.example", "*.b.example", "a.b.example", "*.x.example"}, "a.b.example"},
		{"A.B.example", []string{"*", "a.b.EXAMPLE"}, "a.b.EXAMPLE"},
		{"x.b.example", []string{"*", "*.b.example", "*.example"}, "*.b.example"},
		{"x.b.example", []string{"*.example", "*.b.example", "*"}, "*.b.example"},
		{"x.other", []string{"*.example", "*"}, "*"},
		{"x.other", []string{"*.example"}, ""},
		{"", []string{"*"}, ""},
		{"b.example", []string{"*.example", "*.EXAMPLE"}, "*.example"},
	} {
		best := mostSpecific(c.patterns, c.domain, func(p string) string { return p })
		got := ""
		if best != nil {
			got = *best
		}
		if got != c.want {
			t.Errorf("%s among %q: got %q, want %q", c.domain, c.patterns, got, c.want)
		}
	}
}
