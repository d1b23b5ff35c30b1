package token_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"postern/tracking/token"
)

// newKeys makes a key file, as `postern token keygen` does, and reads it.
func newKeys() (*token.Keys, error) {
	dir, err := os.MkdirTemp("", "token")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	file := filepath.Join(dir, "token.keys")
	if _, err := token.AddKey(file, time.Now()); err != nil {
		return nil, err
	}

	return token.ReadKeys(file)
}

func ExampleKeys_Seal() {
	keys, err := newKeys()
	if err != nil {
		log.Fatal(err)
	}

	text := keys.Seal(token.Token{
		Kind:      token.Click,
		Host:      "track.example.com",
		MessageID: keys.NewID(time.Now()),
		Recipient: "jane@example.org",
		Target:    "https://shop.example/?order=1",
	})
	link := token.URL("https://track.example.com", text)

	// When the link is followed:
	_, err = keys.Open(text, "track.other.example")
	fmt.Println(err)

	t, err := keys.Open(text, token.HostOf(link))
	fmt.Println(t.Kind, t.Recipient, t.Target, err)
	// Output:
	// not a token of ours: it does not verify for this host
	// click jane@example.org https://shop.example/?order=1 <nil>
}

func ExampleKeys_ParseID() {
	keys, err := newKeys()
	if err != nil {
		log.Fatal(err)
	}

	id := keys.NewID(time.Now())
	parsed, err := keys.ParseID(id.String())
	fmt.Println(parsed == id, err)

	_, err = keys.ParseID("aaaaaaaaaaaaaaaaaaaaaaaaaa")
	fmt.Println(err)
	// Output:
	// true <nil>
	// not a message id of ours: it does not verify
}

func ExampleHost() {
	fmt.Println(token.Host("Track.Example.COM:8080"))
	fmt.Println(token.Host("bücher.example."))
	fmt.Println(token.Host("[2001:DB8::0]:443"))
	// Output:
	// track.example.com
	// xn--bcher-kva.example
	// 2001:db8::
}
