package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/relay/message"
)

// Names of the fields that are signed.
var (
	// overSigned are signed once more than they occur, so that adding one breaks
	// the signature.
	overSigned = []string{
		"From",
		"To",
		"Cc",
		"Subject",
		"Date",
		"Reply-To",
		"Message-ID",
		"Content-Type",
		"MIME-Version",
	}
	// signed are signed as often as they occur.
	signed = []string{
		"Sender",
		"In-Reply-To",
		"References",
		"Content-Transfer-Encoding",
		"Resent-From",
		"Resent-To",
		"Resent-Cc",
		"Resent-Date",
		"Resent-Message-ID",
		"List-Id",
		"List-Help",
		"List-Subscribe",
		"List-Post",
		"List-Owner",
		"List-Archive",
		"List-Unsubscribe",
		"List-Unsubscribe-Post",
		"Feedback-ID",
	}

	// signedNames are all of them in the order of the h= tag, and signOrder is the
	// place of each by its name in lower case.
	signedNames = slices.Concat(overSigned, signed)
	signOrder   = places(signedNames)
)

// signable is the length of signedNames.
const signable = 27

func places(names []string) map[string]int {
	m := make(map[string]int, len(names))
	for i, n := range names {
		m[strings.ToLower(n)] = i
	}

	return m
}

// Times are the times in a signature.
type Times struct {
	Signed time.Time     // the t= tag
	Expire time.Duration // after Signed, the x= tag; 0: none
}

// Sign returns the DKIM-Signature fields of a message, in the order of the keys
// and each with its CRLF, to be put in front of the message. All lines of the
// body must end with CRLF. The same arguments return the same bytes.
func Sign(keys []Key, header, body []byte, t Times) ([]byte, error) {
	return NewHeader(header).Sign(keys, nil, body, t)
}

// Header is the header that several messages share, prepared for their
// signatures. It is immutable and safe for concurrent use.
type Header struct {
	fields [signable]canonicalFields
}

// canonicalFields are the fields of one name, in relaxed canonicalization and in
// the order of signing: of several the last comes first (RFC 6376 section 5.4.2).
type canonicalFields struct {
	n    int
	data []byte
}

// NewHeader prepares a header, and keeps no reference to it.
func NewHeader(header []byte) *Header {
	h := &Header{}
	fields := message.Fields(header)

	for i := len(fields) - 1; i >= 0; i-- {
		at, ok := signOrder[strings.ToLower(fields[i].Name)]
		if !ok {
			continue
		}

		f := &h.fields[at]
		f.n++
		f.data = append(appendRelaxedField(f.data, fields[i].Raw), crlf...)
	}

	return h
}

// Sign does what the function Sign does for a message whose header is own with h
// behind it.
func (h *Header) Sign(keys []Key, own, body []byte, t Times) ([]byte, error) {
	b := hashers.Get().(*bodyHasher)
	defer hashers.Put(b)

	b.reset()
	b.relaxed(body)
	var sum [sha256.Size]byte
	bodyHash := base64.StdEncoding.EncodeToString(b.h.Sum(sum[:0]))

	b.reset()
	names := h.hash(b.h, NewHeader(own))

	var out []byte
	for _, k := range keys {
		state, err := b.h.(hash.Cloner).Clone()
		if err != nil {
			return nil, fmt.Errorf("dkim: %w", err)
		}

		field := signatureField(k, names, bodyHash, t)
		b.buf = appendRelaxedField(b.buf[:0], field)
		state.Write(b.buf)

		sig, err := k.sign(state.Sum(sum[:0]))
		if err != nil {
			return nil, fmt.Errorf("dkim: %s: %w", RecordName(k.Domain, k.Selector), err)
		}

		out = appendFolded(append(out, field...), base64.StdEncoding.EncodeToString(sig))
	}

	return out, nil
}

// hash writes the fields that are signed to w, those of h before those of own,
// and returns their names for the h= tag.
func (h *Header) hash(w io.Writer, own *Header) (names []string) {
	for i, name := range signedNames {
		n := h.fields[i].n + own.fields[i].n
		if i < len(overSigned) {
			n++
		}
		for range n {
			names = append(names, name)
		}

		w.Write(h.fields[i].data) // a hash does not fail
		w.Write(own.fields[i].data)
	}

	return names
}

var hashers = sync.Pool{New: func() any {
	return &bodyHasher{h: sha256.New(), buf: make([]byte, 0, flushAt+4096)}
}}

// sign signs a SHA-256 digest.
func (k Key) sign(digest []byte) ([]byte, error) {
	if _, ok := k.Private.Public().(ed25519.PublicKey); ok {
		// The digest is the message (RFC 8463 section 3).
		return k.Private.Sign(rand.Reader, digest, crypto.Hash(0))
	}

	return k.Private.Sign(rand.Reader, digest, crypto.SHA256)
}

// algorithm returns the a= tag.
func (k Key) algorithm() string {
	if isRSA(k) {
		return "rsa-sha256"
	}

	return "ed25519-sha256"
}

// foldAt is the greatest length of a line of the field, in bytes.
const foldAt = 76

// signatureField returns the field up to and including b=, folded.
func signatureField(k Key, names []string, bodyHash string, t Times) []byte {
	const start = "DKIM-Signature: v=1;"
	w := folder{out: []byte(start), column: len(start)}
	w.tag(" a=" + k.algorithm() + ";")
	w.tag(" c=relaxed/relaxed;")
	w.tag(" d=" + k.Domain + ";")
	w.tag(" s=" + k.Selector + ";")
	w.tag(" t=" + strconv.FormatInt(t.Signed.Unix(), 10) + ";")
	if t.Expire > 0 {
		w.tag(" x=" + strconv.FormatInt(t.Signed.Add(t.Expire).Unix(), 10) + ";")
	}

	for i, n := range names {
		text := n + ":"
		if i == 0 {
			text = " h=" + text
		}
		if i == len(names)-1 {
			text = strings.TrimSuffix(text, ":") + ";"
		}
		w.tag(text)
	}

	w.tag(" bh=" + bodyHash + ";")
	w.newLine()
	w.tag(" b=")

	return w.out
}

// folder writes tags on lines of a bounded length.
type folder struct {
	out    []byte
	column int
}

func (w *folder) newLine() {
	w.out = append(w.out, "\r\n"...)
	w.column = 0
}

// tag writes s, on a new line if this one is full.
func (w *folder) tag(s string) {
	if w.column > 0 && w.column+len(s) > foldAt {
		w.newLine()
		if s[0] != ' ' {
			w.out = append(w.out, ' ')
			w.column++
		}
	}

	w.out = append(w.out, s...)
	w.column += len(s)
}

// appendFolded appends the signature, which ends the field.
func appendFolded(dst []byte, sig string) []byte {
	column := len(dst) - bytes.LastIndexByte(dst, '\n') - 1

	for len(sig) > 0 {
		n := min(len(sig), foldAt-column)
		dst = append(dst, sig[:n]...)
		sig = sig[n:]
		if len(sig) > 0 {
			dst = append(dst, "\r\n "...)
			column = 1
		}
	}

	return append(dst, crlf...)
}
