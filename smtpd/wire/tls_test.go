package wire

import (
	"context"
	"net"
	"testing"
)

// TestHandshakeContextEnds checks that the context of a handshake ends with it.
func TestHandshakeContextEnds(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer client.Close()
	var got context.Context
	c := NewConn(server, Config{
		Implicit: true,
		TLS:      serverTLS(),
		Release:  func() {},
		OnFail:   func(error) {},
		BeforeTLS: func(ctx context.Context) (func(), error) {
			got = ctx
			if ctx.Err() != nil {
				t.Errorf("the context has ended before: %v", ctx.Err())
			}
			return func() {}, nil
		},
	})
	go client.Write([]byte("EHLO x\r\n"))
	go func() { // whatever the server has to say to that
		for buf := make([]byte, 100); ; {
			if _, err := client.Read(buf); err != nil {
				return
			}
		}
	}()
	if err := c.handshake(); err == nil {
		t.Error("a handshake without TLS")
	}
	if got == nil || got.Err() == nil {
		t.Errorf("the context %v goes on", got)
	}
}
