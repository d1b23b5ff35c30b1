package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"
)

// ErrID is wrapped by all errors of ParseID.
var ErrID = errors.New("not a message id of ours")

// ID identifies one recipient's copy of a message. It consists of 48 bits of Unix
// milliseconds, 16 bits of a counter, 16 random bits, and 48 bits of a MAC under a
// token key, by which ids that were not issued are recognized.
type ID [16]byte

const (
	idSigned = 10 // bytes that the MAC covers
	idText   = 26 // length of the text form
)

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// String returns the id as 26 characters of lower-case base32 (RFC 4648 section 6).
func (id ID) String() string {
	return strings.ToLower(idEncoding.EncodeToString(id[:]))
}

// Time returns the time at which the id was issued, in whole milliseconds.
func (id ID) Time() time.Time {
	var b [8]byte
	copy(b[2:], id[:6])

	return time.UnixMilli(int64(binary.BigEndian.Uint64(b[:])))
}

// NewID issues an id for a copy made at now.
func (k *Keys) NewID(now time.Time) ID {
	var id ID
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(id[:6], ms[2:])

	// The counter distinguishes ids of one process, the random bits those of
	// several processes with the same keys.
	binary.BigEndian.PutUint16(id[6:8], uint16(k.counter.Add(1)))
	rand.Read(id[8:idSigned])

	mac := k.newest().idMAC(id[:idSigned])
	copy(id[idSigned:], mac[:])

	return id
}

// ParseID parses the text form of an id, in either case, and verifies it under all
// keys. Errors wrap ErrID.
func (k *Keys) ParseID(s string) (ID, error) {
	if len(s) != idText {
		return ID{}, fmt.Errorf("%w: %d characters", ErrID, len(s))
	}

	raw, err := idEncoding.DecodeString(strings.ToUpper(s))
	if err != nil || len(raw) != len(ID{}) {
		return ID{}, fmt.Errorf("%w: not base32", ErrID)
	}

	id := ID(raw)
	if !strings.EqualFold(id.String(), s) { // spare bits that are not zero
		return ID{}, fmt.Errorf("%w: not canonical", ErrID)
	}
	if !k.verify(id) {
		return ID{}, fmt.Errorf("%w: it does not verify", ErrID)
	}

	return id, nil
}

// verify reports whether an id was issued under one of the keys. It tries all of
// them, so that the time it takes does not depend on which.
func (k *Keys) verify(id ID) bool {
	ok := false
	for i := range k.keys {
		if mac := k.keys[i].idMAC(id[:idSigned]); hmac.Equal(mac[:], id[idSigned:]) {
			ok = true
		}
	}

	return ok
}

// idMAC returns the MAC of an id, given the bytes that it covers.
func (k *key) idMAC(signed []byte) (mac [len(ID{}) - idSigned]byte) {
	h, _ := k.macs.Get().(hash.Hash)
	if h == nil {
		h = hmac.New(sha256.New, k.idKey)
	}

	h.Reset()
	h.Write(signed)
	var sum [sha256.Size]byte
	copy(mac[:], h.Sum(sum[:0]))
	k.macs.Put(h)

	return mac
}
