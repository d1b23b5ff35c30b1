package dkim_test

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"time"

	"postern/dkim"
)

func ExampleSign() {
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", ed25519.SeedSize)))
	keys := []dkim.Key{{Domain: "example.org", Selector: "s2026", Private: private}}

	header := "From: news@example.org\r\nTo: reader@example.net\r\nSubject: Hello\r\n"
	signature, err := dkim.Sign(keys, []byte(header), []byte("Hi.\r\n"), dkim.Times{Signed: time.Unix(1795500000, 0)})
	if err != nil {
		fmt.Println(err)
		return
	}

	first, _, _ := strings.Cut(string(signature), "\r\n")
	fmt.Println(first)
	// Output:
	// DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org;
}

func ExampleSigner_KeysFor() {
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", ed25519.SeedSize)))
	signer := dkim.NewSigner([]dkim.Key{{Domain: "example.org", Selector: "s2026", Private: private}})

	for _, domain := range []string{"example.org", "news.example.org", "example.net"} {
		fmt.Println(domain, len(signer.KeysFor(domain, time.Now())))
	}
	// Output:
	// example.org 1
	// news.example.org 1
	// example.net 0
}
