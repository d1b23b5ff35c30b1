// Package dkim holds signing keys, signs messages (RFC 6376, RFC 8463), and writes
// and checks the DNS record of a key.
//
// It has a signer of its own, which needs one pass over a message and neither a
// pipe nor a copy of the body; its results are tested against
// emersion/go-msgauth. RSA is computed by OpenSSL where libcrypto.so.3 can be
// loaded at run time, in a third of the time that crypto/rsa takes.
//
// A Signer is immutable and safe for concurrent use.
package dkim
