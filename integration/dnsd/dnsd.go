// Package dnsd is a DNS server for tests: it answers TXT and A questions from a
// map and says that nothing else exists.
package dnsd

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Serve answers on c until ctx ends. Names are without the final dot, in lower
// case; each value is one TXT record, or an A record where it is an IPv4 address.
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
	for _, v := range values {
		ip, err := netip.ParseAddr(v)
		h := dnsmessage.ResourceHeader{Name: one.Name, Type: one.Type, Class: one.Class, TTL: 60}
		switch {
		case err == nil && one.Type == dnsmessage.TypeA:
			a.Answers = append(a.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}})
		case err != nil && one.Type == dnsmessage.TypeTXT:
			var parts []string
			for ; len(v) > 255; v = v[255:] {
				parts = append(parts, v[:255])
			}
			a.Answers = append(a.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.TXTResource{TXT: append(parts, v)}})
		}
	}
	b, err := a.Pack()
	if err != nil {
		return nil
	}
	return b
}
