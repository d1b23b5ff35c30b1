package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"
)

// RecordValue returns the text of the TXT record of a key (RFC 6376 section
// 3.6.1).
func RecordValue(k crypto.Signer) (string, error) {
	switch pub := k.Public().(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return "", err
		}

		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub), nil
	}

	return "", errors.New("dkim: neither RSA nor Ed25519")
}

// RecordName returns the DNS name of the TXT record, without a trailing dot.
func RecordName(domain, selector string) string { return selector + "._domainkey." + domain }

// BIND returns the TXT record in the syntax of a zone file, in strings of at most
// 255 bytes.
func BIND(domain, selector, value string) string {
	var b strings.Builder
	b.WriteString(RecordName(domain, selector) + ". IN TXT (")

	for len(value) > 0 {
		n := min(len(value), 255)
		b.WriteString(" \"" + value[:n] + "\"")
		value = value[n:]
	}

	return b.String() + " )"
}
