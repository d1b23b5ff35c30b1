package web

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"postern/tracking/token"
)

// TestOneAnswerPerRequest sends requests byte by byte as they are, with another
// one glued to what should be a body: what is answered, how often, and how many
// events it makes.
func TestOneAnswerPerRequest(t *testing.T) {
	base, m, keys := setup(t)
	conf := base.cfg
	conf.Sites = []Site{{Host: "t.example"}, {Host: "u.example"}}
	click := path(keys, token.Token{Kind: token.Click, Host: "t.example", Target: "https://x.example/"})
	pixel := path(keys, token.Token{Kind: token.Open, Host: "t.example"})
	unsub := path(keys, token.Token{Kind: token.ListUnsubscribe, Host: "t.example"})
	const (
		host  = "Host: t.example\r\n"
		end   = "Connection: close\r\n\r\n"
		form  = "Content-Type: application/x-www-form-urlencoded\r\n"
		once  = form + "Content-Length: 26\r\n\r\nList-Unsubscribe=One-Click"
		other = "GET /smuggled HTTP/1.1\r\nHost: t.example\r\nConnection: close\r\n\r\n"
	)
	for _, c := range []struct {
		name, request string
		statuses      string
		events        int
	}{
		{"two in a row", "GET " + click + " HTTP/1.1\r\n" + host + "\r\n" + other, "302 404", 1},
		{"HEAD", "HEAD " + pixel + " HTTP/1.1\r\n" + host + end, "200", 0},
		{"a range", "GET " + pixel + " HTTP/1.1\r\n" + host + "Range: bytes=0-0\r\n" + end, "200", 1},
		{"conditional", "GET " + pixel + " HTTP/1.1\r\n" + host + "If-None-Match: *\r\nIf-Modified-Since: Tue, 24 Nov 2099 00:00:00 GMT\r\n" + end, "200", 1},
		{"a body with a length", "GET " + click + " HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello" + other, "302", 1},
		{"a body that is a request", "GET " + click + " HTTP/1.1\r\n" + host + "Content-Length: 62\r\n\r\n" + other, "302", 1},
		{"a body in chunks", "GET " + click + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + other, "302", 1},
		{"length and chunks", "GET " + click + " HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + other, "302", 1},
		{"two lengths that differ", "GET " + click + " HTTP/1.1\r\n" + host + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nhello" + other, "400", 0},
		{"an unknown coding", "GET " + click + " HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n" + other, "501", 0},
		{"a space in front of the colon", "GET " + click + " HTTP/1.1\r\n" + host + "Content-Length : 4\r\n\r\n" + other, "400", 0},
		{"OPTIONS", "OPTIONS " + click + " HTTP/1.1\r\n" + host + "\r\n" + other, "405", 0},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n" + other, "405", 0},
		{"CONNECT", "CONNECT t.example:443 HTTP/1.1\r\n" + host + "\r\n" + other, "405", 0},
		{"TRACE", "TRACE " + click + " HTTP/1.1\r\n" + host + "\r\n" + other, "405", 0},
		{"PUT with a body", "PUT " + click + " HTTP/1.1\r\n" + host + "Content-Length: 62\r\n\r\n" + other, "405", 0},
		{"POST to no link", "POST / HTTP/1.1\r\n" + host + "Content-Length: 62\r\n\r\n" + other, "405", 0},
		{"POST to a link", "POST " + click + " HTTP/1.1\r\n" + host + once + other, "405", 0},
		{"POST to a pixel", "POST " + pixel + " HTTP/1.1\r\n" + host + once + other, "405", 0},
		{"unsubscribe", "POST " + unsub + " HTTP/1.1\r\n" + host + once + other, "200", 1},
		{"unsubscribe that asks first", "POST " + unsub + " HTTP/1.1\r\n" + host + "Expect: 100-continue\r\n" + once + other, "100 200", 1},
		{"unsubscribe with a large body", "POST " + unsub + " HTTP/1.1\r\n" + host + form + "Content-Length: 10000\r\n\r\nList-Unsubscribe=One-Click&x=" + strings.Repeat("y", 9971) + other, "400", 0},
		{"unsubscribe with a length that is too small", "POST " + unsub + " HTTP/1.1\r\n" + host + form + "Content-Length: 10\r\n\r\nList-Unsubscribe=One-Click" + other, "400", 0},
		{"GET of an unsubscribe link", "GET " + unsub + " HTTP/1.1\r\n" + host + end, "200", 0},

		{"an absolute target", "GET http://t.example" + click + " HTTP/1.1\r\nHost: u.example\r\n" + end, "302", 1},
		{"an absolute target of another host", "GET http://u.example" + click + " HTTP/1.1\r\n" + host + end, "404", 0},
		{"HTTP/1.0 with a host", "GET " + click + " HTTP/1.0\r\n" + host + "\r\n", "302", 1},
		{"HTTP/1.0 without a host, of several", "GET " + click + " HTTP/1.0\r\n\r\n", "404", 0},
		{"no host", "GET " + click + " HTTP/1.1\r\n" + end, "400", 0},
		{"two hosts", "GET " + click + " HTTP/1.1\r\n" + host + "Host: u.example\r\n" + end, "400", 0},
		{"a host with a port, in capitals, with a dot", "GET " + click + " HTTP/1.1\r\nHost: T.EXAMPLE.:8443\r\n" + end, "302", 1},
		{"an IPv6 literal", "GET " + click + " HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n" + end, "404", 0},
		{"a host that is none", "GET " + click + " HTTP/1.1\r\nHost: t.example/x\r\n" + end, "400", 0},

		{"a query behind the token", "GET " + click + "?fbclid=x&a=/b HTTP/1.1\r\n" + host + end, "302", 1},
		{"a query without its mark", "GET " + click + "&utm_source=x HTTP/1.1\r\n" + host + end, "302", 1},
		{"an encoded query", "GET " + click + "%3Ffbclid=x HTTP/1.1\r\n" + host + end, "302", 1},
		{"a query with a URL in it, without its mark", "GET " + click + "&u=https://y.example/z HTTP/1.1\r\n" + host + end, "302", 1},
		{"an encoded query with a slash", "GET " + click + "%3Fa=b%2Fc HTTP/1.1\r\n" + host + end, "302", 1},
		{"a full stop behind the token", "GET " + click + ". HTTP/1.1\r\n" + host + end, "302", 1},
		{"a slash behind the token", "GET " + click + "/ HTTP/1.1\r\n" + host + end, "302", 1},
		{"a fragment behind the token", "GET " + click + "#top HTTP/1.1\r\n" + host + end, "302", 1},
		{"doubled slashes", "GET /" + strings.Replace(click, "/t/", "/t//", 1) + " HTTP/1.1\r\n" + host + end, "302", 1},
		{"an encoded path", "GET /%74%2F" + strings.TrimPrefix(click, "/t/") + " HTTP/1.1\r\n" + host + end, "302", 1},
		{"an encoded token", "GET " + click[:10] + hexed(click[10:12]) + click[12:] + " HTTP/1.1\r\n" + host + end, "302", 1},
		{"a token in capitals", "GET /t/" + strings.ToUpper(strings.TrimPrefix(click, "/t/")) + " HTTP/1.1\r\n" + host + end, "404", 0},
		{"a token without its end", "GET " + click[:len(click)-1] + " HTTP/1.1\r\n" + host + end, "404", 0},
		{"a letter behind the token", "GET " + click + "A HTTP/1.1\r\n" + host + end, "404", 0},
		{"no token", "GET /t/ HTTP/1.1\r\n" + host + end, "404", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.events = nil
			conf.State = NewState()
			s := NewServer(New(conf), slog.New(slog.DiscardHandler))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { defer close(done); s.Serve(l) }()
			defer func() { s.Close(); <-done }()

			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(conn) // the end may be a reset, where the server left bytes unread

			if statuses := statusesIn(string(got)); statuses != c.statuses {
				t.Errorf("got %s, want %s:\n%.500s", statuses, c.statuses, got)
			}
			if n := len(m.all()); n != c.events {
				t.Errorf("%d events, want %d", n, c.events)
			}
		})
	}
}

// statusesIn are those of all answers in what a connection sent.
func statusesIn(s string) string {
	var out []string
	for _, answer := range strings.Split(s, "HTTP/1.")[1:] {
		status, _, _ := strings.Cut(answer[min(2, len(answer)):], " ")
		out = append(out, status)
	}
	return strings.Join(out, " ")
}

// hexed writes every byte as %XX.
func hexed(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		const digits = "0123456789ABCDEF"
		b.WriteByte('%')
		b.WriteByte(digits[s[i]>>4])
		b.WriteByte(digits[s[i]&0xf])
	}
	return b.String()
}
