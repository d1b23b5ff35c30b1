// Package dkim holds signing keys, signs messages (RFC 6376, RFC 8463), and
// writes and checks the DNS record to publish.
//
// Signing is our own, in one pass without a pipe or a copy of the body, for
// emersion/go-msgauth's signer takes many times what the hash takes; go-msgauth
// verifies, and is the reference that tests compare with. RSA is OpenSSL's where
// libcrypto.so.3 can be loaded, for it takes a third of the time of Go's.
//
// A Signer is immutable and safe for concurrent use.
package dkim
