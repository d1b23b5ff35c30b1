// Package dnsd is a DNS server for tests: it answers TXT and A questions from a
// map and says that nothing else exists.
package dnsd

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// Serve answers on c until ctx ends. Names are without the final dot, in lower
// case; each value is one TXT record, or an A record where it is an IPv4 address, or an
// MX record where it is "MX HOST".
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

// ServeTCP is Serve for questions by TCP (RFC 1035 section 4.2.2).
func ServeTCP(ctx context.Context, l net.Listener, txt map[string][]string) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			for {
				var size [2]byte
				if _, err := io.ReadFull(c, size[:]); err != nil {
					return
				}
				question := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(c, question); err != nil {
					return
				}
				answer := reply(question, txt)
				if answer == nil {
					return
				}
				if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
					return
				}
			}
		})
	}
}

// mxPrefix begins a value that is an MX record, with its host behind it.
const mxPrefix = "MX "

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
		case strings.HasPrefix(v, mxPrefix):
			host, err := dnsmessage.NewName(strings.TrimPrefix(v, mxPrefix) + ".")
			if err == nil && one.Type == dnsmessage.TypeMX {
				a.Answers = append(a.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.MXResource{Pref: 10, MX: host}})
			}
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
