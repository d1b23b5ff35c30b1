package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/tracking/event"
	"postern/tracking/token"
)

// message gives a plain message with more header fields.
func withFields(fields string) string {
	return "From: News <news@example.com>\r\n" + fields + "Date: x\r\nMessage-ID: <1@x>\r\nContent-Type: text/html\r\n\r\n<body><a href=\"https://example.com/\">x</a></body>\r\n"
}

func TestMsysAPI(t *testing.T) {
	for _, c := range []struct {
		name, json string
		refused    string // words of the 550
		to         string // recipients
		job        string
		vmta       string
		open, init bool
		click      bool
		meta, tags string
	}{
		{name: "nothing", json: `{}`, to: "a", open: true, init: true, click: true},
		{name: "campaign", json: `{"campaign_id":"Spring sale"}`, to: "a", job: "Spring_sale", open: true, init: true, click: true},
		{name: "options", json: `{"options":{"open_tracking":false,"click_tracking":false,"ip_pool":"pool1"}}`, to: "a", vmta: "pool1"},
		{name: "opens off, initial on", json: `{"options":{"open_tracking":false,"initial_open":true}}`, to: "a", init: true, click: true},
		{name: "metadata and tags", json: `{"metadata":{"user":{"id":1}},"tags":["x","y"]}`, to: "a", open: true, init: true, click: true, meta: `{"user":{"id":1}}`, tags: "x y"},
		{name: "folded", json: "{\"campaign_id\":\r\n   \"two\r\n\t words\"}", to: "a", job: "two_words", open: true, init: true, click: true},
		{name: "cc, bcc and archive", json: `{"cc":[{"email":"c@example.net","name":"C"}],"bcc":["b@example.net"],"archive":[{"email":"ar@example.net"}]}`, to: "a b c ar", open: true, init: true, click: true},
		{name: "cc that is a recipient already", json: `{"cc":["a@EXAMPLE.net"]}`, to: "a", open: true, init: true, click: true},
		{name: "no JSON", json: `{"campaign_id"`, refused: "ends too early"},
		{name: "empty", json: ``, refused: "ends too early"},
		{name: "wrong type", json: `{"campaign_id":7}`, refused: "campaign_id must not be a number"},
		{name: "wrong option", json: `{"options":{"open_tracking":"no"}}`, refused: "options.open_tracking must not be a string"},
		{name: "metadata no object", json: `{"metadata":[1]}`, refused: "metadata must be an object"},
		{name: "long campaign", json: `{"campaign_id":"` + strings.Repeat("x", 65) + `"}`, refused: "longer than 64"},
		{name: "many tags", json: `{"tags":["1","2","3","4","5","6","7","8","9","10","11"]}`, refused: "more than 10 tags"},
		{name: "trailing words", json: `{} {}`, refused: "something follows"},
		{name: "bad address", json: `{"bcc":["x@y> ORCPT=z"]}`, refused: "X-MSYS-API"},
		{name: "bad pool", json: `{"options":{"ip_pool":"a b"}}`, refused: "ip_pool"},
		{name: "unknown pool", json: `{"options":{"ip_pool":"pool9"}}`, refused: "Unknown VirtualMTA"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Headers.MsysAPI, conf.Routes.Pools = true, []Pool{{Name: "pool1"}} })
			answer := b.relay.Submit(context.Background(), submission(withFields("X-MSYS-API: "+c.json+"\r\n"), "a"))
			if c.refused != "" {
				if answer.Code != 550 || answer.Enhanced != (reply.EnhancedCode{5, 6, 0}) || !strings.Contains(answer.Text, c.refused) {
					t.Errorf("%v", answer)
				}
				if len(b.rec.events) != 1 || b.rec.events[0].Type != event.PolicyRejection {
					t.Errorf("events %v", b.rec.events)
				}
				return
			}
			if answer.Code != 250 {
				t.Fatalf("%v", answer)
			}
			got := map[string]bool{}
			for _, sent := range b.up.got {
				got[sent.Recipient.Address.Local] = true
				if strings.Contains(strings.ToLower(string(sent.Message[0])), "x-msys-api") {
					t.Error("the field went out")
				}
			}
			want := map[string]bool{}
			for _, l := range strings.Fields(c.to) {
				want[l] = true
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("recipients %v", got)
			}
			e := b.rec.events[0]
			if e.CampaignID != c.job || e.BindingGroup != c.vmta || *e.OpenTracking != c.open || *e.InitialPixel != c.init || *e.ClickTracking != c.click ||
				string(e.RcptMeta) != c.meta || strings.Join(e.RcptTags, " ") != c.tags {
				j, _ := json.Marshal(e)
				t.Errorf("event %s", j)
			}
		})
	}
}

// TestArchive: an archive copy has an id of its own and the first recipient's
// links.
func TestArchive(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Headers.MsysAPI = true })
	b.relay.Submit(context.Background(), submission(withFields("X-MSYS-API: {\"archive\":[\"ar@example.net\"]}\r\n"), "a"))
	links := map[string]string{}
	ids := map[string]bool{}
	for _, s := range b.up.got {
		msg := string(s.Message[0])
		links[s.Recipient.Address.Local] = strings.Join(regexp.MustCompile(`https://t\.example/t/[\w-]+`).FindAllString(msg, -1), " ")
		ids[regexp.MustCompile(`X-Sp-Message-Id: (\w+)`).FindStringSubmatch(msg)[1]] = true
	}
	if links["a"] != links["ar"] || links["a"] == "" || len(ids) != 2 {
		t.Errorf("links %v, ids %v", links, ids)
	}
}

func TestTooManyWithAPI(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Headers.MsysAPI, c.Routes.MaxRecipients = true, 2 })
	if r := b.relay.Submit(context.Background(), submission(withFields("X-MSYS-API: {\"bcc\":[\"b@x.example\",\"c@x.example\"]}\r\n"), "a")); r.Code != 550 || len(b.up.got) != 0 {
		t.Errorf("%v", r)
	}
}

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

func TestSubaccount(t *testing.T) {
	for _, c := range []struct {
		name, field string
		user        uint32
		want        uint32
		header      string
	}{
		{"none", "", 0, 0, ""},
		{"header", "X-Sp-Subaccount-Id: 12\r\n", 0, 12, "X-Sp-Subaccount-Id: 12\r\n"},
		{"the user's is the boundary", "X-Sp-Subaccount-Id: 12\r\n", 7, 7, "X-Sp-Subaccount-Id: 7\r\n"},
		{"invalid", "X-Sp-Subaccount-Id: -1\r\n", 0, 0, ""},
		{"zero", "X-Sp-Subaccount-Id: 0\r\n", 0, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			s := submission(withFields(c.field), "a")
			s.User.Subaccount = c.user
			b.relay.Submit(context.Background(), s)
			if got := b.rec.events[0].SubaccountID; got != c.want {
				t.Errorf("event has %d", got)
			}
			if got := regexp.MustCompile(`(?i)x-sp-subaccount-id:.*\r\n`).FindString(string(b.up.got[0].Message[0])); got != c.header {
				t.Errorf("header %q", got)
			}
			for _, m := range regexp.MustCompile(`https://t\.example/t/([\w-]+)`).FindAllStringSubmatch(string(b.up.got[0].Message[0]), -1) {
				if tok, err := b.keys.Open(m[1], "t.example"); err != nil || tok.Subaccount != c.want {
					t.Errorf("token %+v, %v", tok, err)
				}
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

func TestFromDomains(t *testing.T) {
	for _, c := range []struct {
		name, envelope, header string
		code                   int
	}{
		{"own domain", "a@bob.example", "From: a@bob.example\r\n", 250},
		{"below", "a@x.bob.example", "From: a@y.bob.example\r\n", 250},
		{"null path", "", "From: a@bob.example\r\n", 250},
		{"envelope of others", "a@alice.example", "From: a@bob.example\r\n", 550},
		{"From of others", "a@bob.example", "From: a@alice.example\r\n", 550},
		{"second author of others", "a@bob.example", "From: a@bob.example, b@alice.example\r\n", 550},
		{"Sender of others", "a@bob.example", "From: a@bob.example\r\nSender: a@alice.example\r\n", 550},
		{"From that cannot be read", "a@bob.example", "From: <<a@bob.example\r\n", 550},
		{"a display name that looks right", "a@bob.example", "From: \"a@bob.example\" <a@alice.example>\r\n", 550},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			s := submission(c.header+"\r\nx\r\n", "r")
			s.User.FromDomains = []string{"bob.example", "*.bob.example"}
			s.Envelope.From, _ = envelope.FromUnquoted(c.envelope)
			answer := b.relay.Submit(context.Background(), s)
			if answer.Code != c.code || c.code == 550 && answer.Enhanced != (reply.EnhancedCode{5, 7, 1}) {
				t.Errorf("%v", answer)
			}
		})
	}
}

func TestDKIMChoice(t *testing.T) {
	for _, c := range []struct {
		name, from, api string
		domains         []string
		require         bool
		code            int
		signed          bool
	}{
		{"own key", "a@example.com", "", nil, false, 250, true},
		{"parent's key", "a@news.example.com", "", nil, false, 250, true},
		{"no key", "a@other.example", "", nil, false, 250, false},
		{"no key and required", "a@other.example", "", nil, true, 550, false},
		{"named key", "a@other.example", `{"options":{"dkim_key":"s"}}`, nil, true, 250, true},
		{"named key that is not theirs", "a@other.example", `{"options":{"dkim_key":"s"}}`, []string{"other.example"}, false, 550, false},
		{"unknown key", "a@example.com", `{"options":{"dkim_key":"none"}}`, nil, false, 550, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Signing.Require, conf.Headers.MsysAPI = c.require, true })
			header := "From: " + c.from + "\r\n"
			if c.api != "" {
				header += "X-MSYS-API: " + c.api + "\r\n"
			}
			s := submission(header+"\r\nx\r\n", "r")
			s.Envelope.From = envelope.Address{}
			s.User.FromDomains = c.domains
			answer := b.relay.Submit(context.Background(), s)
			if answer.Code != c.code {
				t.Fatalf("%v", answer)
			}
			if c.code == 250 && strings.HasPrefix(string(b.up.got[0].Message[0]), "DKIM-Signature:") != c.signed {
				t.Errorf("signed: %v", !c.signed)
			}
		})
	}
}

// sevenBitUpstream takes no 8-bit content.
type sevenBitUpstream struct{ *fakeUpstream }

func (s *sevenBitUpstream) Send(ctx context.Context, t *upstream.Transaction) upstream.Outcome {
	if t.EightBit {
		return upstream.Outcome{Err: upstream.ErrEightBit}
	}
	return s.fakeUpstream.Send(ctx, t)
}

func TestEightBit(t *testing.T) {
	b := newBench(t, nil)
	b.relay.cfg.Upstream = &sevenBitUpstream{b.up}
	msg := "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<body>gr\u00fcn</body>\r\n"
	answer := b.relay.Submit(context.Background(), submission(msg, "a", "b"))
	if answer.Code != 250 || len(b.up.got) != 2 {
		t.Fatalf("%v, %d sent", answer, len(b.up.got))
	}
	for _, s := range b.up.got {
		if got := string(s.Message[0]); message.HasEightBit([]byte(got)) || !strings.Contains(got, "Content-Transfer-Encoding: quoted-printable") || !strings.Contains(got, "gr=C3=BCn") {
			t.Errorf("went out as %q", got)
		}
	}
}

func (s *sevenBitUpstream) TakesEightBit() bool { return false }

// TestEightBitQueued: what waits is signed before its upstream is known.
func TestEightBitQueued(t *testing.T) {
	msg := "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\u00fcn\r\n"
	for _, takes := range []bool{true, false} {
		t.Run(fmt.Sprint("upstream takes it: ", takes), func(t *testing.T) {
			b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
			if !takes {
				b.relay.cfg.Upstream = &sevenBitUpstream{b.up}
			}
			if r := b.relay.Submit(context.Background(), submission(msg, "a")); r.Code != 250 || len(b.queue.got) != 1 {
				t.Fatalf("%v, %d queued", r, len(b.queue.got))
			}
			tr := b.queue.got[0]
			got := string(tr.Message(0))
			if tr.EightBit != takes || message.HasEightBit([]byte(got)) != takes || strings.Contains(got, "gr=C3=BCn") == takes {
				t.Errorf("waits as %q", got)
			}
			if v := b.relay.Deliver(context.Background(), tr, 0, 0); !v.Done {
				t.Errorf("%+v", v)
			}
		})
	}
	f := reply.Refuse(550, reply.EnhancedCode{5, 6, 3}, "no")
	f.Err = upstream.ErrEightBit
	if v := verdict(upstream.Outcome{Err: f}); v.Failed || v.Done {
		t.Errorf("a copy that waits is given up for want of 8BITMIME: %+v", v)
	}
}

func TestListUnsubscribe(t *testing.T) {
	for _, c := range []struct {
		name, fields string
		added        bool
	}{{"added", "", true}, {"there already", "List-Unsubscribe: <mailto:x@example.com>\r\n", false}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) {
				conf.Tracking.ListUnsubscribe, conf.Tracking.UnsubscribeBy = true, "unsubscribe@b.example"
			})
			b.relay.Submit(context.Background(), submission(withFields(c.fields), "a"))
			msg := string(b.up.got[0].Message[0])
			m := regexp.MustCompile(`List-Unsubscribe: <https://t\.example/t/([\w-]+)>,\r\n <mailto:unsubscribe@b\.example\?subject=([\w-]+)>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n`).FindStringSubmatch(msg)
			if (m != nil) != c.added {
				t.Fatalf("header of %s", msg)
			}
			signed := regexp.MustCompile(`(?s)h=.*List-Unsubscribe-Post.*bh=`).MatchString(msg)
			if c.added {
				tok, err := b.keys.Open(m[1], "t.example")
				if err != nil || tok.Kind != token.ListUnsubscribe || tok.Recipient != "a@Example.NET" || !signed {
					t.Errorf("token %+v, %v, signed %v", tok, err, signed)
				}
				tok, err = b.keys.Open(m[2], token.Mail)
				if err != nil || tok.Kind != token.ListUnsubscribe || tok.Recipient != "a@Example.NET" {
					t.Errorf("token of the mailto %+v, %v", tok, err)
				}
				if _, err := b.keys.Open(m[2], "t.example"); err == nil {
					t.Error("the token of the mailto opens on the tracking host")
				}
			}
		})
	}
}

// TestBrokenSignatures: a signature of ours that the rewriting breaks goes,
// those of others stay, and all stay where nothing changes.
func TestBrokenSignatures(t *testing.T) {
	old := "DKIM-Signature: v=1; d=example.com; s=x; b=old\r\nDKIM-Signature: v=1; d = other.example; s=x; b=theirs\r\n"
	for _, c := range []struct {
		name, body string
		ours       bool
	}{{"rewritten", "<body>x</body>\r\n", false}, {"not rewritten", "", true}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			msg := old + withFields("")
			if c.body == "" {
				msg = old + "From: a@example.com\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nplain\r\n"
			}
			b.relay.Submit(context.Background(), submission(msg, "a"))
			got := string(b.up.got[0].Message[0])
			if strings.Contains(got, "b=old") != c.ours || !strings.Contains(got, "b=theirs") {
				t.Errorf("%s", got)
			}
		})
	}
}

// TestBrokenSignatureOfOthers: a signature of a domain that the user may not sign
// for is kept, though there is a key.
func TestBrokenSignatureOfOthers(t *testing.T) {
	old := "DKIM-Signature: v=1; d=example.com; s=x; b=old\r\n"
	for _, held := range []string{"example.com", "other.example"} {
		b := newBench(t, func(c *Config) { c.Holders = NewHeldDomains([]string{held}) })
		b.relay.Submit(context.Background(), submission(old+withFields("")+"<body>x</body>\r\n", "a"))

		kept := strings.Contains(string(b.up.got[0].Message[0]), "b=old")
		if want := held == "example.com"; kept != want {
			t.Errorf("%s is held: signature of example.com kept: %v, want %v", held, kept, want)
		}
	}
}

// TestVerdict: what ends a waiting copy, and what leaves it waiting.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name         string
		out          upstream.Outcome
		done, failed bool
	}{
		{"taken", upstream.Outcome{Reply: reply.Reply{Code: 250}}, true, false},
		{"later", upstream.Outcome{Reply: reply.Reply{Code: 451}}, false, false},
		{"refused", upstream.Outcome{Reply: reply.Reply{Code: 550}}, false, true},
		{"no login of ours", upstream.Outcome{Reply: reply.Reply{Code: 530, Enhanced: reply.EnhancedCode{5, 7, 0}}}, false, false},
		{"8-bit", upstream.Outcome{Err: &reply.Fault{Class: reply.Permanent, Err: upstream.ErrEightBit}}, false, false},
		{"lost", upstream.Outcome{Upstream: "a:25", Err: errors.New("lost")}, false, false},
	} {
		if v := verdict(c.out); v.Done != c.done || v.Failed != c.failed {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

// TestVerdictAway: copies wait for an upstream that cannot be reached, and for
// their time where it answers and does not want us.
func TestVerdictAway(t *testing.T) {
	away := reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "later", nil)

	for _, c := range []struct {
		name string
		out  upstream.Outcome
		away bool
	}{
		{"not reachable", upstream.Outcome{Upstream: "a:25", Err: away}, true},
		{"no session for us", upstream.Outcome{Upstream: "a:25", Err: fmt.Errorf("%w: %w", upstream.ErrSession, away)}, false},
		{"lost", upstream.Outcome{Upstream: "a:25", Err: errors.New("lost")}, false},
		{"later", upstream.Outcome{Upstream: "a:25", Reply: reply.Reply{Code: 450}}, false},
	} {
		if v := verdict(c.out); v.Away != c.away || v.Failed {
			t.Errorf("%s: %+v, want away %v and not failed", c.name, v, c.away)
		}
	}
}

// TestVerdictIsClean: the retry spool keeps nothing of an upstream's bytes that
// could end a line.
func TestVerdictIsClean(t *testing.T) {
	v := verdict(upstream.Outcome{Reply: reply.Reply{Code: 550, Enhanced: reply.EnhancedCode{5, 1, 1}, Text: "no \rsuch\x00 \u00fcser"}})
	if want := "550 5.1.1 no ?such? ??ser"; v.Reply != want {
		t.Errorf("got %q, want %q", v.Reply, want)
	}
}
