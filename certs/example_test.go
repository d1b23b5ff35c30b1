package certs_test

import (
	"crypto/tls"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"time"

	"postern/certs"
)

// A listener with a certificate of the local CA, and a client that trusts that CA.
func ExampleSelfSigned() {
	dir, err := os.MkdirTemp("", "certs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	cert, err := certs.SelfSigned(dir, "mail.example.com", time.Now())
	if err != nil {
		log.Fatal(err)
	}
	store := certs.NewStore(tls.VersionTLS13, slog.New(slog.DiscardHandler))
	store.Use(cert)

	roots, err := certs.ReadPool(certs.CAFile(dir))
	if err != nil {
		log.Fatal(err)
	}

	server, client := net.Pipe()
	go tls.Server(server, store.Config()).Handshake()
	conn := tls.Client(client, &tls.Config{
		ServerName: "mail.example.com",
		RootCAs:    roots,
	})
	if err := conn.Handshake(); err != nil {
		log.Fatal(err)
	}

	state := conn.ConnectionState()
	fmt.Println(tls.VersionName(state.Version), state.PeerCertificates[0].DNSNames)
	// Output: TLS 1.3 [mail.example.com localhost]
}
