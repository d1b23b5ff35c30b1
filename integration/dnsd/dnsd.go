// Package dnsd is a DNS server for tests: it answers TXT questions from a map
// and says that nothing else exists.
package dnsd

import (
	"context"
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Serve answers on c until ctx ends. Names are without the final dot, in lower
// case; each value is one TXT record.
func Serve(ctx context.Context, c net.PacketConn, txt map[string][]string) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer := reply(buf[:n], txt); answer != nil {
			c.WriteTo(answer, from)
		}
	}
}

func reply(question []byte, txt map[string][]string) []byte {
	var q dnsmessage.Message
	if q.Unpack(question) != nil || len(q.Questions) != 1 {
		return nil
	}
	one := q.Questions[0]
	values, ok := txt[strings.ToLower(strings.TrimSuffix(one.Name.String(), "."))]
	a := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionDesired: q.RecursionDesired, RecursionAvailable: true}, Questions: q.Questions}
	if !ok {
		a.RCode = dnsmessage.RCodeNameError
	}
	if one.Type == dnsmessage.TypeTXT {
		for _, v := range values {
			var parts []string
			for ; len(v) > 255; v = v[255:] {
				parts = append(parts, v[:255])
			}
			a.Answers = append(a.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: one.Name, Type: one.Type, Class: one.Class, TTL: 60},
				Body: &dnsmessage.TXTResource{TXT: append(parts, v)}})
		}
	}
	b, err := a.Pack()
	if err != nil {
		return nil
	}
	return b
}
