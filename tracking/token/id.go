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

// ErrID is wrapped by every error about a message id that is not ours.
var ErrID = errors.New("not a message id of ours")

// ID names one recipient's copy of a message: 48 bits of Unix milliseconds, 32
// of counter and random, 48 of a MAC under the token keys. Whoever holds the
// keys can tell an id that was issued from one that was made up.
type ID [16]byte

const (
	idSigned = 10 // bytes the MAC covers
	idText   = 26 // length of the text form
)

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// String is 26 characters of lower-case base32 (RFC 4648 section 6).
func (id ID) String() string {
	return strings.ToLower(idEncoding.EncodeToString(id[:]))
}

// Time is when the id was issued, in whole milliseconds.
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
	// The counter keeps ids of one process apart, the random half those of
	// several processes that share the keys.
	binary.BigEndian.PutUint16(id[6:8], uint16(k.counter.Add(1)))
	rand.Read(id[8:idSigned])
	mac := k.newest().idMAC(id[:idSigned])
	copy(id[idSigned:], mac[:])
	return id
}

// ParseID reads the text form, in either case, and verifies it under any of
// the keys.
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

// verify looks at every key, whichever fits, so that its time tells nothing.
func (k *Keys) verify(id ID) bool {
	ok := false
	for i := range k.keys {
		if mac := k.keys[i].idMAC(id[:idSigned]); hmac.Equal(mac[:], id[idSigned:]) {
			ok = true
		}
	}

	return ok
}

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
