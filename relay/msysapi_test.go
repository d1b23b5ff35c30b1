package relay

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"postern/dkim"
	"postern/relay/dialect"
	"postern/relay/reply"
)

// TestLimitsOfXMsysAPI at their bounds.
func TestLimitsOfXMsysAPI(t *testing.T) {
	list := func(n int, format string) string {
		var items []string
		for i := range n {
			items = append(items, fmt.Sprintf(format, i))
		}
		return "[" + strings.Join(items, ",\r\n ") + "]"
	}
	refused := func(text string) string { return "550 5.6.0 X-MSYS-API: " + text }

	for _, c := range []struct{ name, json, want string }{
		{"campaign of 64 bytes", `{"campaign_id":"` + strings.Repeat("x", 64) + `"}`, ""},
		{"campaign of 65 bytes", `{"campaign_id":"` + strings.Repeat("x", 65) + `"}`, refused("campaign_id is longer than 64 bytes")},
		{"ten tags", `{"tags":` + list(10, `"t%d"`) + `}`, ""},
		{"eleven tags", `{"tags":` + list(11, `"t%d"`) + `}`, refused("more than 10 tags")},
		{"tag of 255 bytes", `{"tags":["a","` + strings.Repeat("t", 255) + `"]}`, ""},
		{"tag of 256 bytes", `{"tags":["a","` + strings.Repeat("t", 256) + `"]}`, refused("a tag is longer than 255 bytes")},
		{"1000 recipients", `{"cc":` + list(400, `"c%d@x.example"`) + `,"bcc":` + list(300, `"b%d@x.example"`) + `,"archive":` + list(300, `"a%d@x.example"`) + `}`, ""},
		{"1001 recipients", `{"cc":` + list(400, `"c%d@x.example"`) + `,"bcc":` + list(300, `"b%d@x.example"`) + `,"archive":` + list(301, `"a%d@x.example"`) + `}`, refused("more than 1000 recipients in cc, bcc and archive")},
		{"metadata", `{"metadata":{"k":1}}`, ""},
		{"no metadata", `{"metadata":null}`, ""},
		{"metadata that is a string", `{"metadata":"x"}`, refused("metadata must be an object")},
		{"long metadata", `{"metadata":{"k":"` + strings.Repeat("m", 10_000) + `"}}`, refused("metadata is longer than 10000 bytes")},
		{"address as an object", `{"cc":[{"email":"c@x.example","name":"C"}]}`, ""},
		{"address of another kind", `{"cc":[7]}`, refused("cc must not be a number")},
		{"no address", `{"cc":[{"name":"C"}]}`, refused(`"an empty address": bad address: no @`)},
		{"bad address", `{"cc":["c"]}`, refused(`"c": bad address: no @`)},
		{"cut off", `{"cc":`, refused("the JSON ends too early")},
		{"nothing", ``, refused("the JSON ends too early")},
		{"no JSON", `x`, refused("invalid character 'x' looking for beginning of value")},
		{"wrong type", `{"tags":[1]}`, refused("tags must not be a number")},
		{"more behind", `{} x`, refused("something follows the JSON")},
		{"ip_pool of 255 bytes", `{"options":{"ip_pool":"` + strings.Repeat("p", 255) + `"}}`, ""},
		{"ip_pool of 256 bytes", `{"options":{"ip_pool":"` + strings.Repeat("p", 256) + `"}}`, "550 5.6.0 The name of a VirtualMTA is longer than 255 bytes"},
		{"ip_pool that is none", `{"options":{"ip_pool":"a b"}}`, refused("ip_pool is not the name of a VirtualMTA")},
		{"key that is not there", `{"options":{"dkim_key":"none"}}`, refused("no such dkim_key for you")},
		{"long refusal", `{"cc":["` + strings.Repeat("c", 900) + `"]}`, refused(`"` + strings.Repeat("c", 318) + `": bad address: no @`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Headers.MsysAPI, conf.Signing.Signer = true, dkim.NewSigner(nil) })
			b.up.forget = true
			got := b.submit(submission(withFields("X-MSYS-API: "+c.json+"\r\n"), "a"))
			if c.want == "" && !strings.HasPrefix(got, "250 ") || c.want != "" && got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	if err := dialect.RefuseMsysAPI("%s", strings.Repeat("x", 451)); len(reply.For(err).Text) != len("X-MSYS-API: ")+450 {
		t.Errorf("a refusal says %d bytes, want 450", len(reply.For(err).Text))
	}
	if got := dialect.RefuseMsysAPI("a\r\nb").Error(); got != "550 5.6.0 X-MSYS-API: a??b" {
		t.Errorf("got %q", got)
	}
}

// TestXMsysAPITwice is refused: nobody knows which one is meant.
func TestXMsysAPITwice(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Headers.MsysAPI = true })
	got, want := b.submit(submission(withFields("X-MSYS-API: {}\r\nX-Msys-Api: {}\r\n"), "a")), "550 5.6.0 X-MSYS-API: the field stands twice"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b.relay.cfg.Headers.MsysAPI = false
	if got := b.submit(submission(withFields("X-MSYS-API: x\r\nX-Msys-Api: {}\r\n"), "a")); got != "250 2.1.1 taken" {
		t.Errorf("where it is not read: got %q", got)
	}
}

// TestUnknownNamesSayWhatBecomesOfThem.
func TestUnknownNamesSayWhatBecomesOfThem(t *testing.T) {
	for _, c := range []struct {
		name, header string
		powerMTA     bool
		user         string // VirtualMTA of the user
		want         string // message of the line; empty: none
	}{
		{"VirtualMTA", "X-Virtual-MTA: v", true, "", "no VirtualMTA is configured; the name is passed to PowerMTA as it is"},
		{"VirtualMTA, another upstream", "X-Virtual-MTA: v", false, "", ""},
		{"pool", `X-MSYS-API: {"options":{"ip_pool":"p"}}`, true, "", "no pool is configured; the name is passed to PowerMTA as it is"},
		{"pool, another upstream", `X-MSYS-API: {"options":{"ip_pool":"p"}}`, false, "", "no pool is configured; the name is ignored, the upstream is not PowerMTA"},
		{"the user's", "X: y", true, "v", ""},
		{"the user's, and an X-MSYS-API", `X-MSYS-API: {}`, true, "v", ""},
		{"both", "X-Virtual-MTA: v\r\n" + `X-MSYS-API: {"options":{"ip_pool":"p"}}`, true, "", "no VirtualMTA is configured; the name is passed to PowerMTA as it is"},
		{"key", `X-MSYS-API: {"k":1}`, true, "", "unknown key in X-MSYS-API is ignored"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, lines := newLoggingBench(t, func(conf *Config) {
				conf.Headers.MsysAPI, conf.Headers.PowerMTA, conf.Signing.Signer = true, c.powerMTA, nil
			})
			s := submission(c.header+"\r\n"+htmlMessage, "a")
			s.User.VirtualMTA = c.user
			b.submit(s)

			var got []string
			line := regexp.MustCompile(`"msg":"([^"]*)","kind":"\w+","name":"\w+","session":"s.1","user":"u"`)
			for _, m := range line.FindAllStringSubmatch(lines.out.String(), -1) {
				got = append(got, m[1])
			}
			if strings.Join(got, "|") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestConfiguredNamesAreKnown where there are as many pools as VirtualMTAs, too.
func TestConfiguredNamesAreKnown(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) {
		c.Routes.Pools, c.Routes.VirtualMTAs = []Pool{{Name: "p"}}, []VirtualMTA{{Name: "v"}}
	})
	b.submit(submission("X-Virtual-MTA: v\r\n"+htmlMessage, "a"))
	if got := lines.named(t); len(got) != 0 {
		t.Errorf("not known: %q", got)
	}
}
