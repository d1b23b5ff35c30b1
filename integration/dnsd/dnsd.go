// Package dnsd is a DNS server for tests. It answers questions for TXT, A and MX
// records from a map; no other name exists.
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

const (
	// mxPrefix begins a value that is an MX record; its host follows.
	mxPrefix = "MX "

	ttl          = 60
	mxPreference = 10

	// maxString is the length of the longest string of a TXT record (RFC 1035
	// section 3.3).
	maxString = 255
)

// Serve answers questions on c until ctx ends. The keys of records are names in
// lower case without the final dot. Each value is one record: MX if it is
// "MX HOST", A if it is an IPv4 address, or else TXT.
func Serve(ctx context.Context, c net.PacketConn, records map[string][]string) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()

	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}

		if answer := reply(buf[:n], records); answer != nil {
			c.WriteTo(answer, from)
		}
	}
}

// ServeTCP is like Serve for questions over TCP (RFC 1035 section 4.2.2).
func ServeTCP(ctx context.Context, l net.Listener, records map[string][]string) {
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
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()

			for answerOne(c, records) == nil {
			}
		})
	}
}

// answerOne reads one question from a TCP connection and answers it. Both have
// their length in front.
func answerOne(c net.Conn, records map[string][]string) error {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}

	question := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, question); err != nil {
		return err
	}

	answer := reply(question, records)
	if answer == nil {
		return io.ErrUnexpectedEOF
	}

	out := binary.BigEndian.AppendUint16(nil, uint16(len(answer)))
	_, err := c.Write(append(out, answer...))

	return err
}

// reply returns the answer to a message with one question, or nil if it is
// malformed.
func reply(question []byte, records map[string][]string) []byte {
	var q dnsmessage.Message
	if q.Unpack(question) != nil || len(q.Questions) != 1 {
		return nil
	}

	one := q.Questions[0]
	values, ok := records[strings.ToLower(strings.TrimSuffix(one.Name.String(), "."))]
	a := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID:                 q.ID,
			Response:           true,
			RecursionDesired:   q.RecursionDesired,
			RecursionAvailable: true,
		},
		Questions: q.Questions,
	}
	if !ok {
		a.RCode = dnsmessage.RCodeNameError
	}

	for _, v := range values {
		kind, body := record(v)
		if body == nil || kind != one.Type {
			continue
		}
		a.Answers = append(a.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{
				Name:  one.Name,
				Type:  one.Type,
				Class: one.Class,
				TTL:   ttl,
			},
			Body: body,
		})
	}

	b, err := a.Pack()
	if err != nil {
		return nil
	}

	return b
}

// record returns the record of a value, and its type. The body is nil if the value
// cannot be a record.
func record(value string) (dnsmessage.Type, dnsmessage.ResourceBody) {
	if host, ok := strings.CutPrefix(value, mxPrefix); ok {
		name, err := dnsmessage.NewName(host + ".")
		if err != nil {
			return 0, nil
		}
		return dnsmessage.TypeMX, &dnsmessage.MXResource{Pref: mxPreference, MX: name}
	}

	ip, err := netip.ParseAddr(value)
	if err == nil && ip.Is4() {
		return dnsmessage.TypeA, &dnsmessage.AResource{A: ip.As4()}
	}
	if err == nil {
		return 0, nil
	}

	var parts []string
	for ; len(value) > maxString; value = value[maxString:] {
		parts = append(parts, value[:maxString])
	}

	return dnsmessage.TypeTXT, &dnsmessage.TXTResource{TXT: append(parts, value)}
}
