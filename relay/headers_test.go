package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

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
