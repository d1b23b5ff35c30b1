package wire

import (
	"crypto/tls"
	"os"
	"sync"
	"time"

	"postern/certs"
)

// serverTLS returns the TLS of a server under test.
var serverTLS = sync.OnceValue(func() *tls.Config {
	dir, err := os.MkdirTemp("", "postern-cert-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	c, err := certs.SelfSigned(dir, "mail.example.com", time.Now())
	if err != nil {
		panic(err)
	}

	return certs.ServerConfig([]tls.Certificate{c}, tls.VersionTLS12)
})
