package smtpd

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/smtpd/auth"
)

// TestCutMessagesGetNoReply: who has closed its side in the middle of a message
// is not told anything that could be taken for an answer to it.
func TestCutMessagesGetNoReply(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]string{
		"DATA": "DATA\r\n",
		"BDAT": "BDAT 500 LAST\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startServer(t, options["source"], false)
			p := dialFrom(t, r, "127.0.0.1")
			p.say("EHLO x", "250", "MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250")
			p.send(send)
			if name == "DATA" {
				p.expect("354")
			}
			p.send("From: a@example.com\r\n")
			p.raw.(*net.TCPConn).CloseWrite()
			p.check("closed")
			if n := len(r.submit.submissions()); n != 0 {
				t.Errorf("%d messages were submitted", n)
			}
		})
	}
}

// TestCutMessage drops connections in the middle of messages of several sizes,
// among them the sizes of buffers: none is submitted.
func TestCutMessage(t *testing.T) {
	t.Parallel()
	r := startServer(t, func(c *setup) { c.Limits.MaxMessageSize = 1 << 20 }, true)
	for _, n := range []int{0, 1, 100, 4096, 32 << 10, 32<<10 + 1, 200_000} {
		p := dialTLS(t, r)
		p.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
		for range 3 {
			p.reply()
		}
		p.send("From: a@example.com\r\n\r\n" + strings.Repeat("0123456789abcd\r\n", n/16) + "\r\n.")
		p.raw.Close()
	}
	r.stop()
	if n := len(r.submit.submissions()); n != 0 {
		t.Errorf("%d cut messages were submitted", n)
	}
}

// TestSlowClientsHearTheRefusal: a message that was refused early may take as
// long to arrive as any other, so that its client gets the reply, and does not
// send it again for ever.
func TestSlowClientsHearTheRefusal(t *testing.T) {
	t.Parallel()
	slowly := strings.Repeat("x", 20)
	for _, c := range []struct {
		name   string
		begin  string
		slowly string
		end    string
		want   string
	}{
		{"a bare LF", "DATA\r\nX: a\nb\r\n", slowly, "\r\n.\r\n", "550 5.6.0"},
		{"too large", "DATA\r\n" + strings.Repeat("x", 2000), slowly, "\r\n.\r\n", "552 5.3.4"},
		{"a chunk that is too large", "BDAT 1020\r\n" + strings.Repeat("x", 1000), slowly, "", "552 5.3.4"},
		{"a chunk of no transaction", "RSET\r\nBDAT 20\r\n", slowly, "NOOP\r\n", "250 2.0.0 Ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				l := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
				l.conns <- &pipeConn{Conn: server, from: net.IPv4(127, 0, 0, 1)}
				users := newClients(t, auth.Rate{}, nil)
				s := newTestServer(setup{
					Config: Config{
						Hostname: "mail.example.com",
						Log:      quiet,
						Limits:   Limits{MaxMessageSize: 1000, MaxRecipients: 3},
						Timeouts: Timeouts{Idle: 5 * time.Minute, Message: time.Hour, Grace: time.Second},
					},
					Submission: Submission{
						Auth:      users,
						Submit:    &submitter{},
						Directory: anybody{},
						Sources:   []SourceRule{{Network: netip.MustParsePrefix("127.0.0.0/8"), User: "app"}},
					},
				})
				ctx, cancel := context.WithCancel(context.Background())
				served := make(chan error, 1)
				go func() { served <- s.Serve(ctx, l) }()
				defer func() {
					client.Close()
					cancel()
					if err := <-served; err != nil {
						t.Error(err)
					}
				}()
				replies := make(chan string, 100)
				go func() {
					for in := bufio.NewScanner(client); in.Scan(); {
						replies <- in.Text()
					}
					close(replies)
				}()

				client.Write([]byte("EHLO x\r\n"))
				synctest.Wait()
				client.Write([]byte("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"))
				synctest.Wait()
				command, rest, _ := strings.Cut(c.begin, "\r\n")
				client.Write([]byte(command + "\r\n"))
				synctest.Wait()
				client.Write([]byte(rest))
				for i := range c.slowly {
					time.Sleep(time.Minute)
					if _, err := client.Write([]byte(c.slowly[i : i+1])); err != nil {
						t.Errorf("after %d minutes: %v", i+1, err)
						break
					}
				}
				client.Write([]byte(c.end))
				synctest.Wait()
				client.Close()
				last := ""
				for r := range replies {
					last = r
				}
				if !strings.HasPrefix(last, c.want) {
					t.Errorf("got %q, want %q", last, c.want)
				}
			})
		})
	}
}
