package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

// campaign is the upstream of a day: one recipient is gone, one is full.
func campaign(phase, line string) sink.Action {
	switch {
	case phase == "RCPT" && strings.Contains(line, "gone@"):
		return sink.Action{Reply: "550 5.1.1 no such user"}
	case phase == "RCPT" && strings.Contains(line, "full@"):
		return sink.Action{Reply: "452 4.2.2 mailbox full"}
	}

	return sink.Action{}
}

// day is a gateway on a day on which everything happens once.
type day struct {
	*gateway
	sink   *testSink
	port25 string
	id     string // of the message to three recipients, as the client was told
	arrived
}

// arrived is the copy that reached its reader.
type arrived struct {
	data      []byte
	messageID string
	link      string
}

// TestDayInTheLife lives through a campaign with every outcome, and then asks
// what an operator asks: each question has a command that answers it.
func TestDayInTheLife(t *testing.T) {
	need(t, "swaks")
	d := startDay(t)
	var away atomic.Bool
	away.Store(true)
	d.ingest.Fail = whileAway(&away)

	d.sendToThree(t)
	d.refuse(t)
	d.follow(t)
	d.report(t)

	for _, q := range []struct {
		question string
		command  []string
		answers  []string // regular expressions
	}{
		{"where is the mail to full@?", []string{"queue", "list"}, []string{`full@example\.net .*452 4\.2\.2 mailbox full`}},
		{"what waits of this message?", []string{"queue", "show", d.id}, []string{`full@example\.net|Subject: Hello`}},
		{
			"what became of this message?",
			[]string{"events", "tail", "--no-follow", "--all", "--message", d.id},
			[]string{
				`"type":"injection".*"rcpt_to":"ok@example\.net"`,
				`"type":"injection".*"rcpt_to":"full@example\.net"`,
				`"type":"bounce".*"rcpt_to":"gone@example\.net"`,
			},
		},
		{
			"why did the mail to gone@ bounce?",
			[]string{"events", "tail", "--no-follow", "--all", "--type", "bounce"},
			[]string{`"rcpt_to":"gone@example\.net".*550 5\.1\.1 no such user`},
		},
		{
			"why was shop's mail refused?",
			[]string{"events", "tail", "--no-follow", "--all", "--type", "policy_rejection"},
			[]string{`You may not send as boss@other\.example \(From\)`},
		},
		{
			"was it delivered?",
			[]string{"events", "tail", "--no-follow", "--all", "--type", "delivery"},
			[]string{`"message_id":"` + d.messageID + `"`},
		},
		{
			"who clicked?",
			[]string{"events", "tail", "--no-follow", "--all", "--type", "engagement", "--message", d.messageID},
			[]string{`"type":"click".*"rcpt_to":"ok@example\.net".*https://example\.com/reset`},
		},
		{
			"who complained?",
			[]string{"events", "tail", "--no-follow", "--all", "--type", "feedback"},
			[]string{`"type":"spam_complaint".*"rcpt_to":"ok@example\.net"`},
		},
		{"do events reach the service?", []string{"events", "batches"}, []string{`failing .*HTTP 503`}},
		{"what waits for the service?", []string{"events", "stats"}, []string{`injection +\d+ +[1-9]`}},
		{"is the configuration sound?", []string{"check"}, []string{`Who may send without a password\n  nobody`}},
	} {
		t.Run(q.question, func(t *testing.T) {
			command := append(q.command[:len(q.command):len(q.command)], "--config", d.config)
			out := ""
			waitFor(t, strings.Join(q.answers, " and "), func() bool {
				out = run(t, "", postern, command...)
				return matchesAll(out, q.answers)
			})
			t.Logf("postern %s\n%s", strings.Join(q.command, " "), out)
		})
	}

	d.askLogAndMetrics(t)
	d.askForTheLink(t)

	t.Run("can the service have it all now?", func(t *testing.T) {
		away.Store(false)
		d.events(t, event.Click, 1)
	})
	t.Run("can the copy go at once, or never?", func(t *testing.T) {
		if out := run(t, "", postern, "queue", "retry", d.id, "--config", d.config); !strings.Contains(out, "1 due now") {
			t.Errorf("retry: %s", out)
		}
		waitFor(t, "the copy to be dropped", func() bool {
			_, err := try("", postern, "queue", "drop", d.id, "--config", d.config) // it may be in flight just now
			return err == nil
		})
		if out := run(t, "", postern, "queue", "list", "--config", d.config); !strings.Contains(out, "nothing waits") {
			t.Errorf("list: %s", out)
		}
	})
	d.stop(t)
}

func matchesAll(text string, patterns []string) bool {
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(text) {
			return false
		}
	}

	return true
}

// whileAway has the ingest service answer 503 until away is false.
func whileAway(away *atomic.Bool) func(int, *http.Request) (int, http.Header, bool) {
	return func(int, *http.Request) (int, http.Header, bool) {
		if away.Load() {
			return http.StatusServiceUnavailable, http.Header{"Retry-After": {"1"}}, false
		}

		return 0, nil, true
	}
}

func startDay(t *testing.T) *day {
	t.Helper()

	s := startSink(t, sink.Config{Script: campaign})
	port25, extra := withReports(t, "")
	g := newGateway(t, s.addr, extra)
	appendConfig(t, g, "[relay]", "retry_after = [\"1h\"]")
	writeFile(t, g.config, readFile(t, g.config)+"[accounting]\nfiles = [\"acct*.csv\"]\n")
	addUser(t, g, "shop", g.password, "from_domains = [\"example.com\"]\n")
	g.start(t)

	return &day{gateway: g, sink: s, port25: port25}
}

// sendToThree sends the campaign: one copy is accepted, one refused, one waits.
func (d *day) sendToThree(t *testing.T) {
	t.Helper()

	c := &client{addr: d.submission, user: "shop", pass: d.password}
	defer c.close()
	to := []string{"ok@example.net", "gone@example.net", "full@example.net"}
	code, text := c.send("news@example.com", to, newsletter)
	told := regexp.MustCompile(`queued as (\S+)`).FindStringSubmatch(text)
	if code != 250 || told == nil {
		t.Fatalf("to three recipients: %d %s", code, text)
	}
	d.id = told[1]

	d.data = d.sink.wait(t, 1).Data
	d.verifyDKIM(t, d.data)
	d.messageID = string(regexp.MustCompile(`X-Sp-Message-Id: (\S+)`).FindSubmatch(d.data)[1])
	d.link = string(regexp.MustCompile(`HREF='([^']+)'`).FindSubmatch(d.data)[1])
}

// refuse sends what is refused: by the upstream, here, and by the password; and
// what goes unsigned.
func (d *day) refuse(t *testing.T) {
	t.Helper()

	shop := &client{addr: d.submission, user: "shop", pass: d.password}
	defer shop.close()
	if code, text := shop.send("news@example.com", []string{"gone@example.net"}, newsletter); code != 550 || !strings.Contains(text, "no such user") {
		t.Errorf("one recipient, refused: %d %s", code, text)
	}
	foreign := strings.Replace(newsletter, "news@example.com", "boss@other.example", 1)
	if code, text := shop.send("news@example.com", []string{"ok@example.net"}, foreign); code != 550 || !strings.Contains(text, "boss@other.example") {
		t.Errorf("another's From: %d %s", code, text)
	}

	app := &client{addr: d.submission, user: d.user, pass: d.password}
	defer app.close()
	if code, text := app.send("a@unsigned.example", []string{"plain@example.net"}, strings.Replace(newsletter, "news@example.com", "a@unsigned.example", 1)); code != 250 {
		t.Errorf("unsigned: %d %s", code, text)
	}

	if s, err := dialSMTP(d.submission, "shop", "wrong"); err == nil {
		s.c.Close()
		t.Error("a wrong password is accepted")
	}
}

// follow follows the link of the copy that arrived, as a person would.
func (d *day) follow(t *testing.T) {
	t.Helper()

	req, err := http.NewRequest(http.MethodGet, d.link, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0")
	req.Header.Set("Accept-Language", "en")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusFound {
		t.Errorf("the link: %s", res.Status)
	}
}

// report brings PowerMTA's record of the delivery, and a complaint by mail.
func (d *day) report(t *testing.T) {
	t.Helper()

	record := fmt.Sprintf("d,%d,ok@example.net,2.0.0 (success),\"smtp;250 OK\",,mta1,job,%s\r\n", time.Now().Unix(), d.messageID)
	writeFile(t, filepath.Join(d.dir, "acct-1.csv"), accountingHeader+record)
	complaint := filepath.Join(d.dir, "complaint.eml")
	writeFile(t, complaint, arf(d.data))
	run(t, "", "swaks", "--server", d.port25, "--from", "fbl@provider.example", "--to", "x@fbl.example.com", "--data", "@"+complaint)
}

// askLogAndMetrics asks what the log and the admin listener answer.
func (d *day) askLogAndMetrics(t *testing.T) {
	log := func() string { return d.log.String() }
	metrics := func() string { _, text := d.get("/metrics"); return text }
	ready := func() string { status, text := d.get("/readyz"); return fmt.Sprint(status, " ", text) }

	for _, q := range []struct {
		question string
		ask      func() string
		answers  []string
	}{
		{"what was each copy answered?", log, []string{
			`msg=copy .*recipient=ok@example\.net .*outcome=accepted`,
			`msg=copy .*recipient=gone@example\.net .*outcome=\w+ .*reply="550 5\.1\.1 no such user"`,
			`msg=copy .*recipient=full@example\.net .*outcome=\w+ .*reply="452 4\.2\.2 mailbox full"`,
		}},
		{"how long did it take?", log, []string{`msg=message .*took_seconds=[0-9.e-]+`}},
		{"who was told of the bounce?", log, []string{`msg=dsn .*recipient=news@example\.com`}},
		{"who was refused, and what did they hear?", log, []string{`msg="message refused" .*boss@other\.example`}},
		{"what went unsigned?", log, []string{`unsigned\.example`}},
		{"is anything stuck?", metrics, []string{
			`(?m)^postern_queue_copies 1$`,
			`(?m)^postern_queue_oldest_seconds [0-9.e+-]+$`,
			`(?m)^postern_spool_waiting_events\{reader="ingest"\} [1-9]`,
			`(?m)^postern_build_info\{`,
		}},
		{"how long do answers take?", metrics, []string{
			`(?m)^postern_submission_duration_seconds_count [1-9]`,
			`(?m)^postern_upstream_duration_seconds_count\{upstream="` + regexp.QuoteMeta(d.sink.addr) + `"\} [1-9]`,
			`(?m)^postern_web_duration_seconds_count\{kind="click"\} 1$`,
		}},
		{"is mail taken?", ready, []string{`^200 ready`}},
	} {
		t.Run(q.question, func(t *testing.T) {
			waitFor(t, strings.Join(q.answers, " and "), func() bool { return matchesAll(q.ask(), q.answers) })
		})
	}
}

func (d *day) askForTheLink(t *testing.T) {
	t.Run("whose link is this?", func(t *testing.T) {
		out := run(t, "", postern, "token", "decode", "--keys", filepath.Join(d.dir, "token.keys"), d.link)
		if !strings.Contains(out, `"recipient":"ok@example.net"`) || !strings.Contains(out, d.messageID) {
			t.Errorf("got %s", out)
		}
	})
}
