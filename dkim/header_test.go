package dkim

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestSignableIsWhole(t *testing.T) {
	if len(signedNames) != signable || len(signOrder) != signable {
		t.Errorf("%d names, %d places, want %d", len(signedNames), len(signOrder), signable)
	}
}

// TestSharedHeader: a prepared header signs as the whole message does, whatever
// fields of its own a message has above it.
func TestSharedHeader(t *testing.T) {
	keys := []Key{key(t, "rsa2048", "r"), key(t, "ed25519", "e")}
	times := Times{Signed: time.Unix(1700000000, 0), Expire: time.Hour}
	body := []byte("the body\r\n")
	shared := []byte("From: a@example.com\r\nTo : b@example.net\r\nlist-id: x\r\nReceived: old\r\nFrom: second\r\nX-Other: x\r\nSubject:  folded\r\n\ttext \r\n")
	prepared := NewHeader(shared)

	for _, own := range []string{
		"",
		"Received: new\r\nX-Sp-Message-Id: x\r\n",
		"List-Unsubscribe: <https://t.example/1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
		"List-Id: own\r\nFROM: own\r\nfrom: first\r\n",
	} {
		whole := append([]byte(own), shared...)
		want, err := Sign(keys, whole, body, times)
		if err != nil {
			t.Fatal(err)
		}
		got, err := prepared.Sign(keys, []byte(own), body, times)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("own fields %q: signed\n%s\nwant\n%s", own, got, want)
		}
	}
}

// BenchmarkManyFields signs copies of a message with 1 MB of header fields.
func BenchmarkManyFields(b *testing.B) {
	keys := []Key{key(b, "rsa2048", "r")}
	for _, n := range []int{10, 2000, 250_000} {
		header := []byte("From: a@example.com\r\n" + strings.Repeat("X: y"+strings.Repeat("z", max(0, 1_000_000/n-6))+"\r\n", n))
		own := []byte("Received: x\r\n")

		b.Run(fmt.Sprint(n, "/whole"), func(b *testing.B) {
			whole := append([]byte(nil), append(own, header...)...)
			for b.Loop() {
				if _, err := Sign(keys, whole, nil, Times{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint(n, "/prepared"), func(b *testing.B) {
			h := NewHeader(header)
			for b.Loop() {
				if _, err := h.Sign(keys, own, nil, Times{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
